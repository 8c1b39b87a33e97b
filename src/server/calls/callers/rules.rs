//! [`Rules`]: decides who makes a call, at its beginning and, for a stream, again while it is in progress.

use std::{
    hash::RandomState,
    ptr,
    sync::{Arc, Weak},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use super::{
    Callers, Known,
    bearer::{bearer, only_entry},
};
use crate::domain::{Caller, Credential, PeerNames, Recheck, Refusal, TokenOwner, Unknown};

/// The callers that may call, and the owner of the token that a call carries.
#[derive(Debug)]
pub struct Rules {
    /// The callers that are known; with `None`, every client may call.
    pub callers: Option<Callers>,
    /// The owner of the token in requests to Hypersender: this server, or the caller.
    pub owner: TokenOwner,
    /// Makes the hashes of the callers' tokens for Hypersender.
    pub hasher: RandomState,
}

impl Rules {
    /// The caller, and the token for Hypersender that the call carries. `last` is the last proof of the
    /// connection.
    ///
    /// # Errors
    ///
    /// Why the call does not prove that it comes from a known caller, or carries no token for Hypersender.
    pub fn judge(
        &self,
        headers: &HeaderMap,
        names: Option<&PeerNames>,
        last: &mut Option<Proof>,
    ) -> Result<(Caller, Option<Credential>), Unknown> {
        let credential = match self.owner {
            TokenOwner::Server => None,
            TokenOwner::Caller => {
                let token = bearer(only_entry(headers)?.ok_or(Unknown::NoToken)?)?;
                Some(Credential::of_caller(token.into(), &self.hasher))
            }
        };
        let caller = match &self.callers {
            None => Caller::ANYONE,
            Some(callers) => known_caller(self.owner, &callers.known(), headers, names, last)?,
        };
        Ok((caller, credential))
    }

    /// Judges the caller of a call again, by the token or the certificate that the call came with. `None`
    /// when every client may call.
    pub fn recheck(&self, entry: Option<HeaderValue>, names: Option<&PeerNames>) -> Option<Recheck> {
        let callers = self.callers.clone()?;
        let (owner, names) = (self.owner, names.cloned());
        let headers = HeaderMap::from_iter(entry.map(|entry| (AUTHORIZATION, entry)));
        let last = Mutex::new(None);
        Some(Recheck::new(move |instance| {
            let known = callers.known();
            let caller = known_caller(owner, &known, &headers, names.as_ref(), &mut last.lock());
            let caller = caller.map_err(Refusal::CallerUnknown)?;
            if caller.may_ask(instance) { Ok(()) } else { Err(Refusal::InstanceNotAllowed) }
        }))
    }
}

/// The caller, who must be one of `known`.
fn known_caller(
    owner: TokenOwner,
    known: &Arc<Known>,
    headers: &HeaderMap,
    names: Option<&PeerNames>,
    last: &mut Option<Proof>,
) -> Result<Caller, Unknown> {
    match owner {
        TokenOwner::Server => find(known, headers, names, last),
        TokenOwner::Caller => known.by_certificate(names.ok_or(Unknown::NoProof)?).cloned(),
    }
}

/// The last token of a connection that belonged to a caller. Clients usually repeat their token with every
/// call; a repeated token needs no search.
#[derive(Clone)]
pub struct Proof {
    entry: HeaderValue,
    known: Weak<Known>,
    caller: Caller,
}

impl Proof {
    /// Whether `entry` equals the last one, and the known callers have not been replaced since. The
    /// comparison takes constant time and reveals only the length, because a proxy may send the calls of
    /// several callers over one connection, and one of them could guess the token of another by its timing.
    fn is_repeated(&self, entry: &HeaderValue, known: &Arc<Known>) -> bool {
        ptr::eq(self.known.as_ptr(), Arc::as_ptr(known))
            && bool::from(self.entry.as_bytes().ct_eq(entry.as_bytes()))
    }
}

/// A token, if there is one, decides alone: a known certificate does not help a call whose token is unknown.
fn find(
    known: &Arc<Known>,
    headers: &HeaderMap,
    names: Option<&PeerNames>,
    last: &mut Option<Proof>,
) -> Result<Caller, Unknown> {
    let entry = only_entry(headers)?;
    if let (Some(entry), Some(last)) = (entry, &last)
        && last.is_repeated(entry, known)
    {
        return Ok(last.caller.clone());
    }
    match (entry, names) {
        (Some(entry), _) => {
            let caller = known.by_token(bearer(entry)?)?;
            *last =
                Some(Proof { entry: entry.clone(), known: Arc::downgrade(known), caller: caller.clone() });
            Ok(caller.clone())
        }
        (None, Some(names)) => known.by_certificate(names).cloned(),
        (None, None) => Err(Unknown::NoProof),
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use http::{Request, Response};
    use tonic::{Status, body::Body};
    use tower::{Layer, ServiceExt, service_fn};

    use super::{
        super::{CallersLayer, Routed, TokenHash},
        *,
    };
    use crate::{
        domain::{Allowed, Instance},
        grpc::ContactMethod,
    };

    const UNARY: Routed<()> = Routed { method: ContactMethod::GetProfilePicture, body: () };
    const STREAM: Routed<()> = Routed { method: ContactMethod::StreamProfilePictures, body: () };

    /// Callers with the token "secret" and with a certificate, who may ask these instances. With `None`, they
    /// are not known.
    fn callers(allowed: &Arc<Mutex<Option<Allowed>>>) -> Callers {
        let source = allowed.clone();
        Callers::new(move || {
            let mut known = Known::default();
            if let Some(allowed) = &*source.lock() {
                known.add_token(TokenHash::of("secret"), Caller::new("crm", allowed.clone())).unwrap();
                known.add_certificate("shop.internal", Caller::new("shop", allowed.clone())).unwrap();
            }
            Ok(known)
        })
        .unwrap()
    }

    /// The recheck of a call with this token or this name in its certificate.
    async fn recheck_of(
        callers: Option<&Callers>,
        owner: TokenOwner,
        call: Request<Routed<()>>,
    ) -> Option<Recheck> {
        let found = Mutex::new(None);
        let service = CallersLayer::new(callers.cloned(), owner).layer(service_fn(|request: Request<_>| {
            *found.lock() = request.extensions().get::<Recheck>().cloned();
            ready(Ok(Response::new(Body::empty())))
        }));
        let Ok(response) = service.oneshot(call).await;
        assert!(Status::from_header_map(response.headers()).is_none(), "the call was refused");
        found.into_inner()
    }

    fn with_token(body: Routed<()>) -> Request<Routed<()>> {
        Request::builder().header(AUTHORIZATION, "Bearer secret").body(body).unwrap()
    }

    fn with_certificate(body: Routed<()>) -> Request<Routed<()>> {
        Request::builder().extension(PeerNames(["shop.internal".to_owned()].into())).body(body).unwrap()
    }

    #[tokio::test]
    async fn only_a_stream_of_a_known_caller_is_judged_again() {
        let known = callers(&Arc::new(Mutex::new(Some(Allowed::All))));
        for (callers, owner, call, expected) in [
            (Some(&known), TokenOwner::Server, with_token(STREAM), true),
            (Some(&known), TokenOwner::Server, with_certificate(STREAM), true),
            (Some(&known), TokenOwner::Server, with_token(UNARY), false),
            (None, TokenOwner::Server, with_token(STREAM), false),
            (None, TokenOwner::Caller, with_token(STREAM), false),
        ] {
            let row = format!("{callers:?}, {owner:?}, {call:?}");
            assert_eq!(recheck_of(callers, owner, call).await.is_some(), expected, "{row}");
        }
    }

    #[tokio::test]
    async fn a_stream_is_judged_by_the_callers_that_are_known_now() {
        let [shop, other] = ["shop", "other"].map(|name| Instance::parse(name).unwrap());
        let only_shop = Allowed::These(Arc::new([shop.clone()].into()));
        let allowed = Arc::new(Mutex::new(Some(Allowed::All)));
        let callers = callers(&allowed);
        let mut with_both = with_certificate(STREAM);
        with_both.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer 1|upstream"));
        for (owner, call, unknown) in [
            (TokenOwner::Server, with_token(STREAM), Unknown::TokenUnknown),
            (TokenOwner::Server, with_certificate(STREAM), Unknown::CertificateUnknown),
            (TokenOwner::Caller, with_both, Unknown::CertificateUnknown),
        ] {
            let become_known = |now| {
                *allowed.lock() = now;
                callers.reload().unwrap();
            };
            let recheck = recheck_of(Some(&callers), owner, call).await.unwrap();
            for (now, of_shop, of_other) in [
                (Some(Allowed::All), Ok(()), Ok(())),
                (Some(only_shop.clone()), Ok(()), Err(Refusal::InstanceNotAllowed)),
                (None, Err(Refusal::CallerUnknown(unknown)), Err(Refusal::CallerUnknown(unknown))),
                (Some(Allowed::All), Ok(()), Ok(())),
            ] {
                become_known(now);
                // The second answer may come from the last proof.
                for _ in 0..2 {
                    assert_eq!(recheck.check(&shop), of_shop, "{owner:?}");
                    assert_eq!(recheck.check(&other), of_other, "{owner:?}");
                }
            }
        }
    }
}
