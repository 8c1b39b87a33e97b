//! [`CallersLayer`]: authenticates the caller of each call.
//!
//! A caller is known by a bearer token or by a name in its client certificate. Both can be replaced while the
//! server runs, and each call is checked against the callers that are known at its time. Where callers send
//! Hypersender's token themselves, it is taken out of the call here. Authorization is not here: the service
//! checks which instances a caller may ask, because it knows the instance. A stream takes long enough for the
//! callers to be replaced meanwhile, so that its request carries a [`Recheck`](crate::domain::Recheck).

mod bearer;
mod known;
mod rules;

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    hash::RandomState,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use parking_lot::RwLock;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::debug;

pub use self::known::{Known, TokenHash};
use self::{
    bearer::{bearer, only_entry},
    rules::{Proof, Rules},
};
use super::route::Routed;
use crate::{
    domain::{Caller, Refusal, TokenOwner, Unknown},
    grpc::{Answered, call_end, status},
};

/// Reads the callers, or returns every fault.
type Source = Box<dyn Fn() -> Result<Known, Vec<String>> + Send + Sync>;

/// The callers that are known now, and how to read them again. Clones share them.
#[derive(Clone)]
pub struct Callers(Arc<State>);

struct State {
    source: Source,
    known: RwLock<Arc<Known>>,
}

impl Callers {
    /// Reads them for the first time.
    ///
    /// # Errors
    ///
    /// The faults that `source` returns.
    pub fn new(
        source: impl Fn() -> Result<Known, Vec<String>> + Send + Sync + 'static,
    ) -> Result<Self, Vec<String>> {
        let known = RwLock::new(Arc::new(source()?));
        Ok(Self(Arc::new(State { source: Box::new(source), known })))
    }

    /// Reads them again, for every call from now on, and returns how many there are. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// The faults that the source returns. In that case the callers that were known before stay known.
    pub fn reload(&self) -> Result<usize, Vec<String>> {
        let known = Arc::new((self.0.source)()?);
        let count = known.len();
        *self.0.known.write() = known;
        Ok(count)
    }

    /// The caller of a request that is not a gRPC call, by the bearer token in its headers.
    ///
    /// # Errors
    ///
    /// The reason why the token proves no known caller. It is the same as that of a gRPC call.
    pub fn by_token(&self, headers: &HeaderMap) -> Result<Caller, Unknown> {
        let token = bearer(only_entry(headers)?.ok_or(Unknown::NoToken)?)?;
        self.known().by_token(token).cloned()
    }

    /// The callers that are known now.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        self.0.known.read().clone()
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callers({} known)", self.known().len())
    }
}

/// Puts the caller of each call into the extensions of its request; with [`TokenOwner::Caller`] also the
/// credential that the call carries. A call without either is refused.
#[derive(Clone, Debug)]
pub struct CallersLayer(Arc<Rules>);

impl CallersLayer {
    /// Accepts calls of `callers`, or of every client when that is `None`. `owner` says whose token requests
    /// to Hypersender carry.
    pub fn new(callers: Option<Callers>, owner: TokenOwner) -> Self {
        Self(Arc::new(Rules { callers, owner, hasher: RandomState::new() }))
    }
}

impl<S> Layer<S> for CallersLayer {
    type Service = KnownCallers<S>;

    fn layer(&self, inner: S) -> KnownCallers<S> {
        KnownCallers { inner, rules: self.0.clone(), last: None }
    }
}

/// A service whose callers are known. Each connection has a clone of it.
#[derive(Clone)]
pub struct KnownCallers<S> {
    inner: S,
    rules: Arc<Rules>,
    last: Option<Proof>,
}

impl<S, B> Service<Request<Routed<B>>> for KnownCallers<S>
where
    S: Service<Request<Routed<B>>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Routed<B>>) -> Self::Future {
        match self.rules.judge(request.headers(), request.extensions().get(), &mut self.last) {
            Ok((caller, credential)) => {
                // The token must not reach anything behind this layer.
                let entry = request.headers_mut().remove(AUTHORIZATION);
                if request.body().method.is_stream()
                    && let Some(recheck) = self.rules.recheck(entry, request.extensions().get())
                {
                    request.extensions_mut().insert(recheck);
                }
                request.extensions_mut().insert(caller);
                if let Some(credential) = credential {
                    request.extensions_mut().insert(credential);
                }
                Either::Right(self.inner.call(request))
            }
            Err(why) => {
                debug!(%why, "refused a call");
                let end = call_end(request.headers(), request.extensions());
                Either::Left(ready(Ok(status(&Refusal::CallerUnknown(why), end).into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use parking_lot::Mutex;

    use tonic::{Code, Status};
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        domain::{Allowed, Caller, Credential, PeerNames, Unknown},
        grpc::ContactMethod,
    };

    const UNARY: Routed<()> = Routed { method: ContactMethod::GetProfilePicture, body: () };

    /// Knows `crm` by the token "secret" and `shop` by a certificate.
    fn callers() -> Callers {
        let caller = |name| Caller::new(name, Allowed::All);
        let source = move || {
            let mut known = Known::default();
            known.add_token(TokenHash::of("secret"), caller("crm")).unwrap();
            known.add_certificate("shop.internal", caller("shop")).unwrap();
            Ok(known)
        };
        Callers::new(source).unwrap()
    }

    /// The caller and the token that the service behind the layer gets, as `name/token`, or the status of a
    /// refusal.
    async fn call(layer: CallersLayer, entries: &[&'static str], names: &[&str]) -> Result<String, Status> {
        let service = layer.layer(service_fn(|request: Request<Routed<()>>| async move {
            assert!(!request.headers().contains_key(AUTHORIZATION));
            let caller: &Caller = request.extensions().get().unwrap();
            let token = request.extensions().get().map_or("", Credential::expose_token);
            let seen = format!("{}/{token}", caller.name().unwrap_or("anyone"));
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert("seen", HeaderValue::try_from(seen).unwrap());
            Ok::<_, Infallible>(response)
        }));
        let mut request = Request::new(UNARY);
        for entry in entries {
            request.headers_mut().append(AUTHORIZATION, HeaderValue::from_static(entry));
        }
        if !names.is_empty() {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            request.extensions_mut().insert(PeerNames(names));
        }
        let response = service.oneshot(request).await.unwrap();
        match Status::from_header_map(response.headers()) {
            Some(status) => Err(status),
            None => Ok(response.headers()["seen"].to_str().unwrap().to_owned()),
        }
    }

    #[tokio::test]
    async fn a_token_that_is_repeated_is_judged_by_who_is_known_now() {
        let known = Arc::new(Mutex::new(vec!["secret"]));
        let source = known.clone();
        let callers = Callers::new(move || {
            let mut known = Known::default();
            for token in source.lock().iter() {
                known.add_token(TokenHash::of(token), Caller::new(token, Allowed::All)).unwrap();
            }
            Ok(known)
        })
        .unwrap();
        let layer = CallersLayer::new(Some(callers.clone()), TokenOwner::Server);
        let mut service =
            layer.layer(service_fn(|_: Request<Routed<()>>| ready(Ok(Response::new(Body::empty())))));
        let mut code = async |token: &str| {
            let request = Request::builder().header(AUTHORIZATION, format!("Bearer {token}"));
            let response = service.call(request.body(UNARY).unwrap()).await.unwrap();
            Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
        };
        for (token, expected) in [
            ("secret", Code::Ok),
            ("secret", Code::Ok),
            ("secreT", Code::Unauthenticated),
            ("secret", Code::Ok),
        ] {
            assert_eq!(code(token).await, expected);
        }
        *known.lock() = vec!["other"];
        callers.reload().unwrap();
        assert_eq!(code("secret").await, Code::Unauthenticated);
        assert_eq!(code("other").await, Code::Ok);
    }

    #[tokio::test]
    async fn a_caller_is_known_by_token_or_certificate() {
        use Unknown as U;
        type Row<'a> = (&'a [&'static str], &'a [&'a str], Result<&'a str, U>);
        let (own, passed) = (TokenOwner::Server, TokenOwner::Caller);
        let known = Some(callers());
        let check = async |callers: &Option<Callers>, owner, (entries, names, expected): Row<'_>| {
            let seen = call(CallersLayer::new(callers.clone(), owner), entries, names).await;
            let expected = expected.map(str::to_owned).map_err(|why| why.to_string());
            let seen = seen.map_err(|status| {
                assert_eq!(status.code(), Code::Unauthenticated);
                status.message().to_owned()
            });
            assert_eq!(seen, expected, "{owner:?}, {entries:?}, {names:?}");
        };
        let shop = &["shop.internal"][..];
        let other = &["other.internal"][..];
        for row in [
            (&["Bearer secret"][..], &[][..], Ok("crm/")),
            (&["bEARER secret"], &[], Ok("crm/")),
            (&["Bearer secret"], shop, Ok("crm/")),
            (&[], shop, Ok("shop/")),
            (&[], &[], Err(U::NoProof)),
            (&["Bearer other"], &[], Err(U::TokenUnknown)),
            // A token that is not known is not made good by a certificate.
            (&["Bearer other"], shop, Err(U::TokenUnknown)),
            (&["Basic secret"], shop, Err(U::TokenMalformed)),
            (&["Bearer secret", "Bearer secret"], &[], Err(U::TokenMalformed)),
            (&[], other, Err(U::CertificateUnknown)),
        ] {
            check(&known, own, row).await;
        }
        for row in [(&[][..], &[][..], Ok("anyone/")), (&["Bearer a", "Bearer b"], &[], Ok("anyone/"))] {
            check(&None, own, row).await;
        }
        for row in [
            (&["Bearer 1|upstream"][..], &[][..], Ok("anyone/1|upstream")),
            (&[], &[], Err(U::NoToken)),
            (&[], shop, Err(U::NoToken)),
            (&["Bearer"], &[], Err(U::TokenMalformed)),
            (&["Bearer a", "Bearer b"], &[], Err(U::TokenMalformed)),
        ] {
            check(&None, passed, row).await;
        }
        for row in [
            (&["Bearer 1|upstream"][..], shop, Ok("shop/1|upstream")),
            // Here a token is Hypersender's and says nothing about who calls.
            (&["Bearer secret"], &[], Err(U::NoProof)),
            (&["Bearer secret"], other, Err(U::CertificateUnknown)),
            (&[], shop, Err(U::NoToken)),
        ] {
            check(&known, passed, row).await;
        }
    }
}
