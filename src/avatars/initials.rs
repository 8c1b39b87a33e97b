//! Initials: a default image with the first letters of a name.
