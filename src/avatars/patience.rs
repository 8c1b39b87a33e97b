//! [`Patience`]: bounds how long the requests for one instance wait together.
