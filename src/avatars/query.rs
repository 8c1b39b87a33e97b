//! [`Query`]: the parameters of an address.
