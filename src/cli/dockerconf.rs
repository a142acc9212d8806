//! What docker's configuration file says besides credentials.

use crate::registry::credentials::places::docker_config;
use crate::store::read_file;
use serde_json::Value;

/// It is not larger.
const MAX_CONFIG: u64 = 1 << 20;

/// Its words for proxies, and the variables that tell programs of them.
const PROXIES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

/// A value of it, if there is one.
fn value(key: &str) -> Option<Value> {
    let path = docker_config(&|name| std::env::var_os(name))?;
    let data = read_file(&path, MAX_CONFIG).ok()?;
    match serde_json::from_slice::<Value>(&data) {
        Ok(mut config) => config.get_mut(key).map(Value::take),
        Err(e) => {
            log::warn!("{} is not read for its {key}: {e}", path.display());
            None
        }
    }
}

/// A text of it, if there is one.
pub(super) fn text(key: &str) -> Option<String> {
    value(key)?.as_str().map(str::to_owned)
}

/// Proxies for containers and builds, as variables in both spellings, but
/// those that `given` (`NAME[=VALUE]`) has.
pub(super) fn proxies(given: &[String]) -> Vec<String> {
    let value = value("proxies");
    // Docker's other keys are addresses of daemons.
    let default = value.as_ref().and_then(|v| v.get("default"));
    default.map_or_else(Vec::new, |proxies| variables(proxies, given))
}

fn variables(proxies: &Value, given: &[String]) -> Vec<String> {
    let has = |name: &str| given.iter().any(|g| g.split('=').next() == Some(name));
    let mut out = Vec::new();
    for (key, upper) in PROXIES {
        let value = proxies.get(key).and_then(Value::as_str);
        let Some(value) = value.filter(|v| !v.is_empty()) else {
            continue;
        };
        for name in [upper.to_owned(), upper.to_lowercase()] {
            if !has(&name) {
                out.push(format!("{name}={value}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn proxies_have_two_spellings_and_yield_to_what_is_given() {
        let proxies =
            json!({"httpProxy": "http://p:1", "noProxy": "a,b", "ftpProxy": "", "allProxy": 7});
        let given = ["http_proxy=mine", "NO_PROXY", "HTTP_PROXYS=x"].map(str::to_owned);
        assert_eq!(
            variables(&proxies, &given),
            ["HTTP_PROXY=http://p:1", "no_proxy=a,b"]
        );
        assert_eq!(variables(&json!("x"), &[]), [""; 0]);
    }
}
