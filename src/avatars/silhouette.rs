//! The silhouette: the default image.
