//! Who we are, as far as a server asks and may know.
//!
//! A server names in a challenge how it wants to know us: `Basic`, or `Bearer`
//! with the address of a token server. Tokens are kept by what they allow until
//! they run out.

use super::Keeper;
use super::address::{host_of, is_loopback};
use super::answers::{Challenge, Token, UNAUTHORIZED, challenge, token};
use super::fault::{Fault, Reply};
use super::transport::{Answer, Request, Transport};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::Method;
use ureq::http::header::WWW_AUTHENTICATE;

/// What a token server's answer has at most.
const MAX_TOKEN: u64 = 1 << 20;
/// How we call ourselves to token servers.
const CLIENT: &str = "capas";

/// Somebody's name and secret at a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name; not used with an identity token.
    pub username: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves who somebody is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password, or what a registry gives in place of one.
    Password(String),
    /// A refresh token of the registry's token server.
    IdentityToken(String),
}

/// Without the secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.username)
    }
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    /// What we say must not be readable on the way, and would be.
    plain: bool,
    /// By the scopes that were asked for.
    tokens: HashMap<String, Kept>,
    /// What to ask a token server for, where that is more.
    wanted: HashMap<String, Vec<String>>,
}

struct Kept {
    value: String,
    until: Instant,
}

/// What is known of one host's ways.
pub(super) struct Auth {
    name: String,
    keeper: Keeper,
    state: Mutex<State>,
}

impl Auth {
    pub fn new(name: &str, keeper: Keeper) -> Auth {
        Auth {
            name: name.to_owned(),
            keeper,
            state: Mutex::new(State::default()),
        }
    }

    /// The value of `Authorization` for a request with these scopes; none while
    /// nobody has asked. One thread at a time gets a token, the others use it.
    pub fn header(&self, transport: &Transport, scopes: &[String]) -> Reply<Option<String>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (realm, service) = match state.challenge.clone() {
            None => return Ok(None),
            Some(Challenge::Basic) => return self.basic(&state, scopes).map(Some),
            Some(Challenge::Bearer { realm, service }) => (realm, service),
        };
        let key = scopes.join(" ");
        if let Some(token) = state.tokens.get(&key)
            && token.until > Instant::now()
        {
            return Ok(Some(bearer(&token.value)));
        }
        let wanted = state.wanted.get(&key).map_or(scopes, Vec::as_slice);
        let credentials = self.credentials(&state, scopes)?;
        let answer = fetch_token(
            transport,
            &Ask {
                realm: &realm,
                service: &service,
                scopes: wanted,
                credentials: credentials.as_ref(),
                loopback: is_loopback(&self.name),
                plain: state.plain,
                offline: false,
            },
        )?;
        let Some(value) = answer.value else {
            return Err(Fault::invalid(format!(
                "the token server {} gives no token",
                host_of(&realm)
            )));
        };
        // A little earlier than it says, for the way to the server.
        let life = answer.life;
        let until = Instant::now() + life - (life / 10).min(Duration::from_secs(5));
        let header = bearer(&value);
        state.tokens.insert(key, Kept { value, until });
        Ok(Some(header))
    }

    /// The server answered 401: note what it wants. `plain`: it is spoken to
    /// without TLS over a network. `refused`: what it was given in vain.
    pub fn challenged(
        &self,
        answer: Answer,
        scopes: &[String],
        plain: bool,
        refused: Option<&str>,
    ) -> Reply<()> {
        let values: Vec<String> = answer
            .headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| v.to_str().ok().map(str::to_owned))
            .collect();
        let Some((challenge, scope)) = challenge(&values) else {
            return answer.checked().map(drop);
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.plain |= plain;
        if refused.is_some()
            && challenge == Challenge::Basic
            && state.challenge == Some(Challenge::Basic)
        {
            return answer.checked().map(drop);
        }
        let key = scopes.join(" ");
        // Another thread may have a new one already.
        let vain = |t: &Kept| refused == Some(&bearer(&t.value));
        if state.tokens.get(&key).is_some_and(vain) {
            state.tokens.remove(&key);
        }
        let mut wanted = scopes.to_vec();
        for scope in scope.split(' ').filter(|s| !s.is_empty()) {
            if !wanted.iter().any(|w| w == scope) {
                wanted.push(scope.to_owned());
            }
        }
        state.wanted.insert(key, wanted);
        state.challenge = Some(challenge);
        Ok(())
    }

    /// After a successful request: a refresh token, if the token server gives
    /// such for our name and password.
    pub fn identity_token(&self, transport: &Transport) -> Reply<Option<String>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Challenge::Bearer { realm, service }) = &state.challenge else {
            return Ok(None);
        };
        let credentials = self.credentials(&state, &[])?;
        let answer = fetch_token(
            transport,
            &Ask {
                realm,
                service,
                scopes: &[],
                credentials: credentials.as_ref(),
                loopback: is_loopback(&self.name),
                plain: state.plain,
                offline: true,
            },
        )?;
        Ok(answer.refresh)
    }

    /// Say what to do to those who were refused because they said nothing of
    /// themselves.
    pub fn advise(&self, fault: Fault, scopes: &[String]) -> Fault {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = || matches!(self.credentials(&state, scopes), Ok(None));
        if fault.status() == Some(401) && !state.plain && unknown() {
            return self.unknown();
        }
        fault
    }

    fn unknown(&self) -> Fault {
        Fault::Status {
            status: 401,
            text: format!("{UNAUTHORIZED}: try capas login {}", self.name),
            after: None,
        }
    }

    /// What we may say of us.
    fn credentials(&self, state: &State, scopes: &[String]) -> Reply<Option<Credentials>> {
        if state.plain {
            return Ok(None);
        }
        let repository = scopes
            .iter()
            .find_map(|s| s.strip_prefix("repository:")?.rsplit_once(':'));
        Ok((self.keeper)(&self.name, repository.map(|(name, _)| name))?)
    }

    fn basic(&self, state: &State, scopes: &[String]) -> Reply<String> {
        match self.credentials(state, scopes)? {
            Some(Credentials {
                username,
                secret: Secret::Password(password),
            }) => Ok(basic(&username, &password)),
            _ if state.plain => Err(Fault::invalid(format!(
                "{} wants a password, which is not sent without TLS",
                self.name
            ))),
            _ => Err(self.unknown()),
        }
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// What a token server is asked.
struct Ask<'a> {
    realm: &'a str,
    service: &'a str,
    scopes: &'a [String],
    credentials: Option<&'a Credentials>,
    /// The registry is on this machine, so its token server may be.
    loopback: bool,
    /// The registry is spoken to without TLS, by wish.
    plain: bool,
    /// Also for a refresh token.
    offline: bool,
}

fn fetch_token(transport: &Transport, ask: &Ask<'_>) -> Reply<Token> {
    let host = host_of(ask.realm);
    let private = ask.realm.starts_with("https://")
        || (ask.realm.starts_with("http://") && ask.loopback && is_loopback(&host));
    if !private && (ask.credentials.is_some() || !ask.plain) {
        return Err(Fault::invalid(format!(
            "the registry names a token server without TLS: {host}"
        )));
    }
    let mut form = Form::default();
    form.add("service", ask.service);
    let (request, key) = match ask.credentials {
        Some(Credentials {
            secret: Secret::IdentityToken(token),
            ..
        }) => {
            form.add("grant_type", "refresh_token");
            form.add("client_id", CLIENT);
            form.add("refresh_token", token);
            if !ask.scopes.is_empty() {
                form.add("scope", &ask.scopes.join(" "));
            }
            let mut request = Request::new(Method::POST, ask.realm.to_owned());
            let kind = "application/x-www-form-urlencoded".to_owned();
            request.headers.push(("content-type", kind));
            (request, None)
        }
        other => {
            for scope in ask.scopes {
                form.add("scope", scope);
            }
            if ask.offline {
                form.add("client_id", CLIENT);
                form.add("offline_token", "true");
            }
            let key = other.and_then(|c| match &c.secret {
                Secret::Password(password) => {
                    form.add("account", &c.username);
                    Some(basic(&c.username, password))
                }
                Secret::IdentityToken(_) => None,
            });
            let joint = if ask.realm.contains('?') { '&' } else { '?' };
            let url = format!("{}{joint}{}", ask.realm, form.0);
            form.0.clear();
            (Request::get(url), key)
        }
    };
    let request = Request {
        body: form.0.as_bytes(),
        ..request
    };
    let answer = transport.exchange(&request, key.as_deref())?.checked()?;
    Ok(token(&answer.bytes(MAX_TOKEN)?)?)
}

/// Names and values as in a query.
#[derive(Default)]
struct Form(String);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&encode(value));
    }
}

/// A value in a query.
pub(super) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let c = Credentials {
            username: "me".to_owned(),
            secret: Secret::Password("hidden".to_owned()),
        };
        assert_eq!(format!("{c:?}"), "Credentials(me)");
        assert_eq!(encode("a b:c/~"), "a%20b%3Ac%2F~");
    }
}
