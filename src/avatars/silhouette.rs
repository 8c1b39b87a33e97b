//! The silhouette: the default image, which shows a person without features.

use super::image::Size;

/// The `Content-Type` of drawings.
pub const SVG: &str = "image/svg+xml";

/// The silhouette in a size, as SVG. The colours are medium greys, which stand out from a light and from a
/// dark page.
#[must_use]
pub fn silhouette(size: Size) -> &'static str {
    macro_rules! svg {
        ($pixels:literal) => {
            concat!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"",
                $pixels,
                "\" height=\"",
                $pixels,
                "\" viewBox=\"0 0 96 96\"><path fill=\"#8b98a5\" d=\"M0 0h96v96H0z\"/>",
                "<g fill=\"#e4e9ed\"><circle cx=\"48\" cy=\"37\" r=\"17\"/>",
                "<path d=\"M12 96c0-23 16-34 36-34s36 11 36 34z\"/></g></svg>"
            )
        };
    }
    match size {
        Size::S48 => svg!(48),
        Size::S96 => svg!(96),
        Size::S192 => svg!(192),
        Size::S640 => svg!(640),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silhouette_has_the_size_that_is_asked_for() {
        for size in Size::ALL {
            let svg = silhouette(size);
            let pixels = size.pixels();
            assert!(svg.contains(&format!("width=\"{pixels}\" height=\"{pixels}\"")), "{svg}");
            assert!(svg.len() < 400 && svg.is_ascii());
        }
    }
}
