//! Initials: a default image with the first letters of a name.
//!
//! At most two graphemes are shown, of the first and the last word. A grapheme is what a reader takes for one
//! character, with its accents or joined emoji. The rest of the name does not reach the image.

use unicode_segmentation::UnicodeSegmentation;

use super::image::Size;

/// Maximum number of characters of one grapheme. The longest emoji have 10; a pile of accents has more, and
/// loses those that are too many.
const GRAPHEME_CHARS_MAX: usize = 10;
/// Keeps two letters of a cursive script from being joined, which would show parts of words.
const NON_JOINER: char = '\u{200c}';

/// The colours of the background. White letters on each of them have a contrast of at least 4.5 to 1, as
/// WCAG 2.2 asks for (1.4.3).
const COLOURS: [&str; 12] = [
    "#b3261e", "#a8324e", "#8e3a8c", "#6a3fb5", "#4a50c0", "#1f64b8", "#00707e", "#00735a", "#3b7220",
    "#6f6500", "#8c5400", "#5b6470",
];

/// An image of the initials of `name`, as SVG. `contact` determines the colour. `None` when the name has no
/// letter, digit or emoji.
#[must_use]
pub fn initials(name: &str, contact: u64, size: Size) -> Option<String> {
    let letters = letters(name)?;
    let colour = COLOURS[usize::try_from(contact % COLOURS.len() as u64).unwrap_or_default()];
    let pixels = size.pixels();
    let letters = escape(&letters);
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{pixels}\" height=\"{pixels}\" viewBox=\"0 0 96 96\">\
         <path fill=\"{colour}\" d=\"M0 0h96v96H0z\"/><text x=\"48\" y=\"48\" dy=\".35em\" fill=\"#fff\" \
         font-family=\"system-ui,sans-serif\" font-size=\"40\" text-anchor=\"middle\">{letters}</text></svg>"
    ))
}

/// The first grapheme of the first word and of the last word that have one.
fn letters(name: &str) -> Option<String> {
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut words = name.split_whitespace().filter_map(initial);
    let first = words.next()?;
    Some(match words.next_back() {
        None => first,
        Some(last) if is_cursive(&first) || is_cursive(&last) => format!("{first}{NON_JOINER}{last}"),
        Some(last) => first + &last,
    })
}

/// The first grapheme of a word that begins with a letter, a digit or an emoji, in upper case.
fn initial(word: &str) -> Option<String> {
    let word: String = word.chars().filter(|&c| !is_formatting(c)).collect();
    let grapheme = word.graphemes(true).find(|grapheme| grapheme.chars().next().is_some_and(is_shown))?;
    let short = || grapheme.chars().take(GRAPHEME_CHARS_MAX);
    if short().next().is_some_and(is_unicameral) {
        return Some(short().collect());
    }
    // In upper case, one letter may become several.
    let upper: String = short().flat_map(char::to_uppercase).collect();
    upper.graphemes(true).next().map(str::to_owned)
}

/// Whether a grapheme that begins with this character is shown.
fn is_shown(c: char) -> bool {
    c.is_alphanumeric()
        // The blocks of emoji and of other symbols.
        || matches!(c, '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

/// Whether the character is not drawn, and changes the direction of the text around it or separates letters.
/// The joiner of emoji is not among them.
fn is_formatting(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffd}'
    ) || u32::from(c) & 0xfffe == 0xfffe
}

/// Whether the letter is usual in one case only. Georgian has capital letters, but no name is written with
/// them, and most fonts lack them.
fn is_unicameral(c: char) -> bool {
    matches!(c, '\u{10d0}'..='\u{10ff}')
}

/// Whether the text begins with a letter of a script whose letters join: Arabic, Syriac, N'Ko, Mandaic or
/// Mongolian.
fn is_cursive(text: &str) -> bool {
    text.starts_with(|c| {
        matches!(c, '\u{600}'..='\u{7ff}' | '\u{840}'..='\u{8ff}' | '\u{1800}'..='\u{18af}'
            | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}')
    })
}

/// The text for an element of XML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn at_most_two_letters_of_a_name_are_shown() {
        for (name, expected) in [
            ("Ada Lovelace", Some("AL")),
            ("ada king lovelace", Some("AL")),
            ("Plato", Some("P")),
            ("  \t Ada\u{a0}\n Lovelace ", Some("AL")),
            ("(Ada) \"Lovelace\"", Some("AL")),
            ("Ada - ", Some("A")),
            ("3 Musketeers", Some("3M")),
            // One letter of a small letter that becomes two.
            ("\u{df}eta", Some("S")),
            ("\u{e9}mile zola", Some("\u{c9}Z")),
            ("e\u{301}mile zola", Some("E\u{301}Z")),
            ("\u{416}\u{435}\u{43d}\u{44f} \u{438}\u{432}", Some("\u{416}\u{418}")),
            ("\u{3b1}\u{3c2}", Some("\u{391}")),
            ("\u{738b}\u{5c0f}\u{660e}", Some("\u{738b}")),
            ("\u{c774} \u{c21c}\u{c2e0}", Some("\u{c774}\u{c21c}")),
            ("\u{645}\u{62d}\u{645}\u{62f} \u{639}\u{644}\u{64a}", Some("\u{645}\u{200c}\u{639}")),
            ("\u{5d3}\u{5d5}\u{5d3} \u{5db}\u{5d4}\u{5df}", Some("\u{5d3}\u{5db}")),
            ("\u{930}\u{93e}\u{91c} \u{915}\u{941}", Some("\u{930}\u{93e}\u{915}\u{941}")),
            (
                "\u{905}\u{928}\u{93f}\u{932} \u{915}\u{941}\u{92e}\u{93e}\u{930}",
                Some("\u{905}\u{915}\u{941}"),
            ),
            // A character of the second plane, and an emoji of one character.
            ("\u{20000}\u{660e}", Some("\u{20000}")),
            ("\u{1f600} ada", Some("\u{1f600}A")),
            ("\u{10d0}\u{10d1} \u{10d2}", Some("\u{10d0}\u{10d2}")),
            // A flag, and a family of four that is joined.
            ("\u{1f1ea}\u{1f1ec} Ada", Some("\u{1f1ea}\u{1f1ec}A")),
            (
                "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}",
                Some("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{200d}\u{1f466}"),
            ),
            ("\u{2764}\u{fe0f}", Some("\u{2764}\u{fe0f}")),
            // Marks that turn the text around, and a control character, are removed.
            ("\u{202e}Ada \u{2066}\u{200f}Lovelace", Some("AL")),
            ("\u{0}Ada\u{7f}Lovelace", Some("AL")),
            ("<script>", Some("S")),
            ("& <", None),
            ("", None),
            (" .-_ ", None),
            ("\u{301}", None),
            ("\u{200b}\u{feff}", None),
        ] {
            assert_eq!(letters(name).as_deref(), expected, "{name:?}");
        }
        let pile = format!("a{}", "\u{301}".repeat(500));
        assert_eq!(letters(&pile).unwrap().chars().count(), GRAPHEME_CHARS_MAX);
    }

    #[test]
    fn white_letters_can_be_read_on_every_colour() {
        let channel = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        for colour in COLOURS {
            let part = |at| channel(u8::from_str_radix(&colour[at..at + 2], 16).unwrap());
            let luminance = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
            let contrast = 1.05 / (luminance + 0.05);
            assert!(contrast >= 4.5, "{colour}: {contrast}");
        }
    }

    #[test]
    fn the_colour_is_chosen_by_the_contact() {
        let image = |contact| initials("Ada", contact, Size::S96).unwrap();
        assert_eq!(image(5), image(5));
        let all: std::collections::HashSet<_> = (0..100).map(image).collect();
        assert_eq!(all.len(), COLOURS.len());
        assert!(image(0).contains("width=\"96\" height=\"96\""));
        assert_eq!(initials("?", 0, Size::S96), None);
    }

    proptest! {
        #[test]
        fn any_name_gives_a_short_image_without_markup_of_its_own(name in "\\PC{0,40}|(<|&|\"|'|\\PC|\u{0}){0,40}") {
            if let Some(svg) = initials(&name, 1, Size::S48) {
                prop_assert!(svg.len() < 600);
                prop_assert_eq!(svg.matches('<').count(), 5);
                prop_assert!(!svg.contains(char::is_control));
                let (_, text) = svg.split_once("middle\">").unwrap();
                let (text, _) = text.split_once("</text>").unwrap();
                let text = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
                prop_assert!(!text.replace("&quot;", "").replace("&#39;", "").contains('&'));
            }
        }
    }
}
