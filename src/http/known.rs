//! The field names this gateway knows, classified once at parse, and the groups the rules speak of. What is done with a group
//! (refuse, drop, forward) is decided by the parsers and writers.

/// Which field a name is. Everything the rules and the phases behind ask for has a variant; the rest is [`Known::Other`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Known {
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    Upgrade,
    Http2Settings,
    ProxyAuthenticate,
    ProxyAuthorization,
    Host,
    Authorization,
    /// `x-api-key`, `api-key`, `x-goog-api-key`: a credential like `authorization`, and treated like it.
    ApiKey,
    Cookie,
    SetCookie,
    ContentType,
    /// `content-encoding`, `content-range` and every other `content-*`.
    Content,
    CacheControl,
    Expect,
    RetryAfter,
    XRequestId,
    Traceparent,
    HeadraceCoalesce,
    /// Any other `x-headrace-*`.
    Headrace,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    /// Any other `x-forwarded-*`.
    XForwarded,
    XRealIp,
    /// `client-cert`, `client-cert-chain` (RFC 9440).
    ClientCert,
    /// Named in this message's `Connection` field, so it ends here whatever it was.
    Named,
    Other,
}

impl Known {
    /// The class of a field name, in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Known {
        classify::<false>(name)
    }

    /// Its bit in a [`KnownSet`].
    pub(super) const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Ends at this hop, in both directions (rule 17). `content-length` belongs here too: each hop writes its own framing.
    #[must_use]
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::ContentLength
                | Known::TransferEncoding
                | Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Te
                | Known::Trailer
                | Known::Upgrade
                | Known::Http2Settings
                | Known::ProxyAuthenticate
                | Known::ProxyAuthorization
                | Known::Named
        )
    }

    /// Says who the client is; believed only from a listed proxy (rule 18).
    #[must_use]
    pub const fn is_identity(self) -> bool {
        matches!(
            self,
            Known::Forwarded
                | Known::XForwardedFor
                | Known::XForwardedProto
                | Known::XForwardedHost
                | Known::XForwarded
                | Known::XRealIp
                | Known::ClientCert
        )
    }

    /// A client's credential for the gateway or a provider.
    #[must_use]
    pub const fn is_credential(self) -> bool {
        matches!(self, Known::Authorization | Known::ApiKey)
    }

    /// A `Connection` field must not make a hop drop this one (rule 17).
    pub(super) const fn is_protected(self) -> bool {
        self.is_identity()
            || self.is_credential()
            || matches!(
                self,
                Known::ContentLength
                    | Known::TransferEncoding
                    | Known::Host
                    | Known::Cookie
                    | Known::SetCookie
                    | Known::ContentType
                    | Known::CacheControl
                    | Known::Traceparent
                    | Known::HeadraceCoalesce
                    | Known::Headrace
            )
    }

    /// Must not stand in trailers: framing, routing, authority, content and state (rule 13).
    pub(super) const fn is_forbidden_in_trailers(self) -> bool {
        self.is_protected()
            || self.is_hop_by_hop()
            || matches!(self, Known::Content | Known::Expect | Known::RetryAfter | Known::XRequestId)
    }

    /// A name with `_` that servers which read `_` as `-` take for a framing, Host, auth or forwarding field (rule 4).
    pub(super) fn is_look_alike(name: &[u8]) -> bool {
        let class = Known::with_dashes(name);
        class.is_identity()
            || class.is_credential()
            || class.is_hop_by_hop()
            || matches!(class, Known::Host | Known::HeadraceCoalesce | Known::Headrace)
    }

    /// The part of the look-alikes that could mislead whoever reads an answer.
    pub(super) fn is_framing_look_alike(name: &[u8]) -> bool {
        matches!(Known::with_dashes(name), Known::ContentLength | Known::TransferEncoding)
    }

    fn with_dashes(name: &[u8]) -> Known {
        if memchr::memchr(b'_', name).is_some() { classify::<true>(name) } else { Known::Other }
    }
}

/// By length first, so that most names cost one jump and one comparison.
fn classify<const UNDERSCORE_IS_DASH: bool>(name: &[u8]) -> Known {
    for &(candidate, known) in candidates(name.len()) {
        if same::<UNDERSCORE_IS_DASH>(name, candidate) {
            return known;
        }
    }
    if !matches!(name.first(), Some(b'c' | b'C' | b'x' | b'X')) {
        return Known::Other;
    }
    for &(prefix, known) in PREFIXES {
        if name.len() > prefix.len() && same::<UNDERSCORE_IS_DASH>(&name[..prefix.len()], prefix) {
            return known;
        }
    }
    Known::Other
}

/// Whether `name` is `lower` in any case; both have one length.
fn same<const UNDERSCORE_IS_DASH: bool>(name: &[u8], lower: &[u8]) -> bool {
    if UNDERSCORE_IS_DASH {
        return name
            .iter()
            .zip(lower)
            .all(|(&byte, &wanted)| if byte == b'_' { wanted == b'-' } else { byte.to_ascii_lowercase() == wanted });
    }
    // Eight bytes at a time, the last eight overlapping; a name is a token, so bit 5 is all that case can change.
    let word = |text: &[u8], at: usize| text.get(at..at + 8).and_then(|text| text.try_into().ok()).map(u64::from_ne_bytes);
    let equal = |at: usize| matches!((word(name, at), word(lower, at)), (Some(name), Some(lower)) if name | CASE == lower);
    match name.len() {
        0..8 => name.iter().zip(lower).all(|(&byte, &wanted)| byte | 0x20 == wanted),
        len => (0..len / 8).all(|part| equal(part * 8)) && equal(len - 8),
    }
}

/// Bit 5 of eight bytes.
const CASE: u64 = u64::from_ne_bytes([0x20; 8]);

/// Which classes of fields a head has (or had, before `Connection` named some): saves looking for what is not there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KnownSet(u64);

impl KnownSet {
    pub(super) const fn with(self, known: Known) -> KnownSet {
        KnownSet(self.0 | known.bit())
    }

    /// False: the head has no such field.
    #[must_use]
    pub const fn may_have(self, known: Known) -> bool {
        self.0 & known.bit() != 0
    }
}

type Name = (&'static [u8], Known);

const fn candidates(len: usize) -> &'static [Name] {
    match len {
        2 => &[(b"te", Known::Te)],
        4 => &[(b"host", Known::Host)],
        6 => &[(b"expect", Known::Expect), (b"cookie", Known::Cookie)],
        7 => &[(b"upgrade", Known::Upgrade), (b"trailer", Known::Trailer), (b"api-key", Known::ApiKey)],
        9 => &[(b"x-api-key", Known::ApiKey), (b"forwarded", Known::Forwarded), (b"x-real-ip", Known::XRealIp)],
        10 => &[(b"connection", Known::Connection), (b"keep-alive", Known::KeepAlive), (b"set-cookie", Known::SetCookie)],
        11 => &[(b"traceparent", Known::Traceparent), (b"retry-after", Known::RetryAfter), (b"client-cert", Known::ClientCert)],
        12 => &[(b"content-type", Known::ContentType), (b"x-request-id", Known::XRequestId)],
        13 => &[(b"authorization", Known::Authorization), (b"cache-control", Known::CacheControl)],
        14 => &[(b"content-length", Known::ContentLength), (b"http2-settings", Known::Http2Settings), (b"x-goog-api-key", Known::ApiKey)],
        15 => &[(b"x-forwarded-for", Known::XForwardedFor)],
        16 => &[(b"proxy-connection", Known::ProxyConnection), (b"x-forwarded-host", Known::XForwardedHost)],
        17 => &[
            (b"transfer-encoding", Known::TransferEncoding),
            (b"x-forwarded-proto", Known::XForwardedProto),
            (b"client-cert-chain", Known::ClientCert),
        ],
        18 => &[(b"proxy-authenticate", Known::ProxyAuthenticate)],
        19 => &[(b"proxy-authorization", Known::ProxyAuthorization), (b"x-headrace-coalesce", Known::HeadraceCoalesce)],
        _ => &[],
    }
}

const PREFIXES: &[Name] = &[(b"content-", Known::Content), (b"x-forwarded-", Known::XForwarded), (b"x-headrace-", Known::Headrace)];
