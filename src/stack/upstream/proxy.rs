//! [`Proxy`]: the proxy for requests to Hypersender, for networks without direct access to the internet.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::is_loopback;

/// A proxy for requests to Hypersender, and for nothing else. Neither `Debug` nor `Display` shows its
/// password.
#[derive(Clone, Debug)]
pub struct Proxy {
    url: Url,
    auth: Option<(String, SecretString)>,
}

/// The most bytes of a user or a password in SOCKS5 (RFC 1929).
const AUTH_BYTES_MAX: usize = 255;

impl Proxy {
    /// The proxy at a URL such as `http://proxy.internal:3128`.
    ///
    /// # Errors
    ///
    /// The fault of the URL. The text does not repeat the URL, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "not a URL such as http://host:port; http, https, socks5 and socks5h are known";
        let url = Url::parse(text).map_err(|_| FORM)?;
        let known = matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
        if !known || url.host_str().is_none_or(str::is_empty) {
            return Err(FORM.to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            let fault = "must hold neither user nor password; give them by a variable or file of their own";
            return Err(fault.to_owned());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("must hold neither path, query nor fragment".to_owned());
        }
        Ok(Self { url, auth: None })
    }

    /// The same proxy with the user and password that it asks for, as `user:password`.
    ///
    /// # Errors
    ///
    /// The fault of the text, without repeating it.
    pub fn with_auth(self, auth: &SecretString) -> Result<Self, String> {
        let (user, password) = auth.expose_secret().split_once(':').ok_or("not of the form user:password")?;
        if user.is_empty() || auth.expose_secret().contains(char::is_control) {
            return Err("not of the form user:password".to_owned());
        }
        if user.len().max(password.len()) > AUTH_BYTES_MAX {
            return Err(format!("user and password have at most {AUTH_BYTES_MAX} bytes each"));
        }
        Ok(Self { auth: Some((user.to_owned(), password.into())), ..self })
    }

    /// Whether the API at `base_url` is asked through a proxy. Plain HTTP on loopback is not, or the token
    /// would leave this machine in the clear.
    #[must_use]
    pub fn is_used_for(base_url: &Url) -> bool {
        base_url.scheme() == "https" || !is_loopback(base_url)
    }

    /// Whether the connection to the proxy is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The proxy as the HTTP client wants it.
    ///
    /// # Errors
    ///
    /// None, for a URL that [`Proxy::parse`] accepts.
    pub fn to_client(&self) -> Result<reqwest::Proxy, reqwest::Error> {
        let proxy = reqwest::Proxy::all(self.url.clone())?;
        Ok(match &self.auth {
            Some((user, password)) => proxy.basic_auth(user, password.expose_secret()),
            None => proxy,
        })
    }
}

/// The scheme, the host and the port.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}
