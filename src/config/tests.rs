use super::check;

const DESIGN_EXAMPLE: &str = r#"
# headrace.toml: this is a complete configuration
[server]
listen = ["127.0.0.1:8080"]          # also "unix:/run/headrace.sock"

[[upstreams]]
name = "gpu0"
endpoints = ["http://127.0.0.1:8000"] # also { url = "unix:/run/vllm.sock", weight = 2 }

[[models]]
name = "*"                            # the model clients ask for; "*" takes every model
upstream = "gpu0"
"#;

#[test]
fn the_example_of_the_design_is_a_complete_configuration() {
    let config = check("headrace.toml", DESIGN_EXAMPLE).unwrap();
    assert_eq!(config.models[0].name, "*");
}
