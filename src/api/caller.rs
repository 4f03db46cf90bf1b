//! Who asks, and what he may: what a listener's [`Door`](super::guard::Door) found out about a request, for its route.
//!
//! It must not know what the routes do.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::error::{Code, Refusal};
use super::tokens::{Key, Keys};
use crate::names::AppName;

/// What somebody may do; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// See how things are and what happens.
    View,
    /// Steer what runs: start, stop, roll, scale.
    Operate,
    /// Also read the configuration and bring about what is installed.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::View, Self::Operate, Self::Admin];

    /// Its name, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or_else(|| "a role is view, operate or admin".into())
    }
}

/// Who it is, as far as that can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A user of this machine, by the kernel's word, over the unix socket.
    User(u32),
    /// Who has the token of this name.
    Token(Arc<str>),
    /// Whoever is at this address, where no token is asked for.
    Address(IpAddr),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Token(name) => write!(f, "token {name}"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    who: Who,
    role: Role,
    /// The apps that there are for it; none is all.
    apps: Option<Arc<BTreeSet<AppName>>>,
    /// The places of its listener for orders.
    orders: Arc<Semaphore>,
    /// By which it came in, and what is known now.
    token: Option<(Key, watch::Receiver<Arc<Keys>>)>,
}

impl Caller {
    /// One who may do everything; its orders take their places from these.
    pub fn of_all(who: Who, orders: Arc<Semaphore>) -> Self {
        Self { who, role: Role::Admin, apps: None, orders, token: None }
    }

    /// Who came with this token, which is known as long as `keys` has it.
    pub fn by_token(key: Key, keys: watch::Receiver<Arc<Keys>>, orders: Arc<Semaphore>) -> Self {
        Self { who: Who::Token(key.name.clone()), role: key.role, apps: key.apps.clone(), orders, token: Some((key, keys)) }
    }

    /// For journal and events.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Whether there is nothing that it may not see.
    pub fn sees_all(&self) -> bool {
        self.apps.is_none()
    }

    /// Whether this app exists for it.
    pub fn sees(&self, app: &AppName) -> bool {
        self.apps.as_ref().is_none_or(|apps| apps.contains(app))
    }

    /// The apps that there are for it, where these are not all.
    pub fn apps(&self) -> Option<&BTreeSet<AppName>> {
        self.apps.as_deref()
    }

    /// Refuses what takes a higher role.
    ///
    /// # Errors
    /// 403, with the role that it takes.
    pub fn demand(&self, role: Role) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        let why = format!(
            "this takes the role `{role}`, and {} has `{}`. Root makes a token that may: `project-cluster token add NAME --role {role}`",
            self.who, self.role
        );
        Err(Refusal::new(Code::Forbidden, why))
    }

    /// A place for an order, until that has ended, whether or not somebody waits for it.
    ///
    /// # Errors
    /// 503 when as many are under way as one listener takes on.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.orders).try_acquire_owned().map_err(|_| {
            Refusal::new(Code::Busy, "too many orders are under way that came over this listener; try again when one of them has ended. What hangs in its start is ended by `systemctl stop NAME@APP`")
        })
    }

    /// Until its token is withdrawn, or may something else than it did.
    pub async fn withdrawn(&mut self) {
        let Some((key, keys)) = &mut self.token else { return std::future::pending().await };
        // Without the master there is nothing more to come.
        let _ = keys.wait_for(|keys| !keys.has(key)).await;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // A door puts it there: without one, nobody may do anything.
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| Refusal::new(Code::Failed, "nobody has said who asks; this is a mistake of the master"))
    }
}
