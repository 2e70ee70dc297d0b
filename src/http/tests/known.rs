//! Field names: each is found in any case, and its underscore form is a look-alike where rule 4 says so.

use crate::http::Known;

const NAMES: &[(&str, Known)] = &[
    ("content-length", Known::ContentLength),
    ("transfer-encoding", Known::TransferEncoding),
    ("connection", Known::Connection),
    ("keep-alive", Known::KeepAlive),
    ("proxy-connection", Known::ProxyConnection),
    ("te", Known::Te),
    ("trailer", Known::Trailer),
    ("upgrade", Known::Upgrade),
    ("http2-settings", Known::Http2Settings),
    ("proxy-authenticate", Known::ProxyAuthenticate),
    ("proxy-authorization", Known::ProxyAuthorization),
    ("host", Known::Host),
    ("authorization", Known::Authorization),
    ("x-api-key", Known::ApiKey),
    ("api-key", Known::ApiKey),
    ("x-goog-api-key", Known::ApiKey),
    ("cookie", Known::Cookie),
    ("set-cookie", Known::SetCookie),
    ("content-type", Known::ContentType),
    ("content-encoding", Known::Content),
    ("content-md5", Known::Content),
    ("cache-control", Known::CacheControl),
    ("expect", Known::Expect),
    ("retry-after", Known::RetryAfter),
    ("x-request-id", Known::XRequestId),
    ("traceparent", Known::Traceparent),
    ("x-headrace-coalesce", Known::HeadraceCoalesce),
    ("x-headrace-error", Known::Headrace),
    ("forwarded", Known::Forwarded),
    ("x-forwarded-for", Known::XForwardedFor),
    ("x-forwarded-proto", Known::XForwardedProto),
    ("x-forwarded-host", Known::XForwardedHost),
    ("x-forwarded-port", Known::XForwarded),
    ("x-real-ip", Known::XRealIp),
    ("client-cert", Known::ClientCert),
    ("client-cert-chain", Known::ClientCert),
    ("accept-encoding", Known::Other),
    ("anthropic-version", Known::Other),
    ("x-forwarded", Known::Other),
    ("content", Known::Other),
    ("x-hos", Known::Other),
    ("hostt", Known::Other),
    ("", Known::Other),
];

#[test]
fn every_name_is_found_in_any_case() {
    for &(name, known) in NAMES {
        assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known, "{name}");
    }
}

#[test]
fn rule_4_underscore_names_that_look_like_framing_host_auth_or_forwarding() {
    for &(name, known) in NAMES.iter().filter(|(name, _)| name.contains('-')) {
        let with_underscore = name.replacen('-', "_", 1);
        assert_eq!(Known::of(with_underscore.as_bytes()), Known::Other, "{with_underscore}");
        let harmless = matches!(
            known,
            Known::SetCookie
                | Known::ContentType
                | Known::Content
                | Known::CacheControl
                | Known::RetryAfter
                | Known::XRequestId
                | Known::Other
        );
        assert_eq!(Known::is_look_alike(with_underscore.as_bytes()), !harmless, "{with_underscore}");
        assert_eq!(
            Known::is_framing_look_alike(with_underscore.as_bytes()),
            matches!(known, Known::ContentLength | Known::TransferEncoding),
            "{with_underscore}"
        );
        assert!(!Known::is_look_alike(name.as_bytes()), "{name}: the true name is no look-alike");
    }
}
