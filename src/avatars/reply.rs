//! The response for an outcome: status, headers and body.
