//! Paths to routes, names to models, paths to operations.

use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::{route, sample_config};
use crate::config::{ModelId, RouteId};
use crate::policy::{Operation, Router};

/// Routes in the order given; `Config` promises longest first, which the router does not need.
fn router(routes: &[&str], models: &[&str]) -> Router {
    let mut config = sample_config(models);
    config.routes = routes.iter().map(|&path| route(path)).collect();
    Router::new(&config)
}

#[test]
fn the_longest_path_at_a_segment_boundary_wins() {
    let routes = ["/files/public", "/files", "/v1/models", "/a/", "/filesystem"];
    let router = router(&routes, &[]);
    let table = [
        ("/files", Some("/files")),
        ("/files/", Some("/files")),
        ("/files/x", Some("/files")),
        ("/files/public", Some("/files/public")),
        ("/files/public/x/y", Some("/files/public")),
        ("/files/publicity", Some("/files")),
        ("/filesystem/x", Some("/filesystem")),
        ("/filesystems", None),
        ("/file", None),
        ("/", None),
        ("/v1/models", Some("/v1/models")),
        ("/v1/models/org%2Fname", Some("/v1/models")),
        ("/v1", None),
        ("/a", None),
        ("/a/", Some("/a/")),
        ("/a/b", Some("/a/")),
        ("/zzz", None),
    ];
    for (path, wanted) in table {
        let found = router.resolve_path(path.as_bytes()).map(|route| routes[route.0 as usize]);
        assert_eq!(found, wanted, "{path}");
    }
}

#[test]
fn the_root_takes_what_nothing_else_takes() {
    let router = router(&["/v1/x", "/"], &[]);
    assert_eq!(router.resolve_path(b"/v1/x/y"), Some(RouteId(0)));
    assert_eq!(router.resolve_path(b"/v1/xy"), Some(RouteId(1)));
    assert_eq!(router.resolve_path(b"/"), Some(RouteId(1)));
    assert_eq!(router.resolve_path(b""), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The sorted search against the definition: try them all, take the longest.
    #[test]
    fn the_search_is_the_definition(
        mut routes in proptest::collection::btree_set("(/[ab]{1,2}){1,3}/?|/", 0..12),
        path in "(/[ab]{1,2}){0,4}/?",
    ) {
        let mut routes: Vec<String> = std::mem::take(&mut routes).into_iter().collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.len()));
        let names: Vec<&str> = routes.iter().map(String::as_str).collect();
        let found = router(&names, &[]).resolve_path(path.as_bytes()).map(|route| names[route.0 as usize]);
        let takes = |route: &&&str| path.strip_prefix(**route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || route.ends_with('/'));
        let wanted = names.iter().find(takes).copied();
        prop_assert_eq!(found, wanted, "{:?} {}", names, path);
    }
}

#[test]
fn a_model_by_name_else_by_star() {
    let with_star = router(&[], &["bge", "*", "e5"]);
    assert_eq!(with_star.resolve_model(b"e5"), Some(ModelId(2)));
    assert_eq!(with_star.resolve_model(b"E5"), Some(ModelId(1)), "names are exact");
    assert_eq!(with_star.resolve_model(b""), Some(ModelId(1)));
    assert_eq!(with_star.resolve_model(b"*"), Some(ModelId(1)));
    let without = router(&[], &["bge"]);
    assert_eq!(without.resolve_model(b"bge"), Some(ModelId(0)));
    assert_eq!(without.resolve_model(b"bge2"), None);
}

#[test]
fn operations_by_path() {
    let table = [
        ("/v1/embeddings", Some(Operation::Embeddings)),
        ("/v1/chat/completions", Some(Operation::ChatCompletions)),
        ("/v1/completions", Some(Operation::Completions)),
        ("/v1/responses", Some(Operation::Responses)),
        ("/v1/messages", Some(Operation::Messages)),
        ("/rerank", Some(Operation::Rerank)),
        ("/v2/rerank", Some(Operation::Rerank)),
        ("/score", Some(Operation::Score)),
        ("/v1/classify", Some(Operation::Classify)),
        ("/pooling", Some(Operation::Pooling)),
        ("/v1/embeddings/", None),
        ("/v1/Embeddings", None),
        ("/v1/models", None),
        ("/", None),
    ];
    for (path, wanted) in table {
        assert_eq!(Operation::from_path(path.as_bytes()), wanted, "{path}");
    }
}

#[test]
fn operations_are_listed_in_the_order_of_their_discriminants() {
    for (index, operation) in Operation::ALL.into_iter().enumerate() {
        assert_eq!(operation as usize, index);
        assert_eq!(operation.coalescible(), operation == Operation::Embeddings);
    }
}
