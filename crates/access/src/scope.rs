//! What a principal may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{AUDIT, CATEGORY};

/// What is done to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Events of a category are read.
    Read,
    /// Events of a category are appended.
    Append,
    /// A command is sent to an entity, process or saga of a category.
    Command,
    /// A view is asked.
    Query,
    /// Something is looked at or mended as an operator does it; and what begins with `$` is read or
    /// appended.
    Operate,
    /// Keys are made and revoked.
    Admin,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Append,
        Self::Command,
        Self::Query,
        Self::Operate,
        Self::Admin,
    ];

    /// What has to be allowed for this to be done to what has this name: what begins with `$` is read and
    /// appended by who may operate it, and keys are made by who may admin them; the audit is as any other.
    pub fn needed_for(self, name: &str) -> Self {
        match self {
            Self::Append if name == CATEGORY => Self::Admin,
            Self::Read | Self::Append if name.starts_with('$') && name != AUDIT => Self::Operate,
            verb => verb,
        }
    }

    /// As it is written in a scope.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Command => "command",
            Self::Query => "query",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

/// One line of what a principal may: `read:order`, `append:order-*`, `*:*`, `deny:read:payment`.
///
/// In front stands the verb, or `*` for each; then a name, or the beginning of names with a `*` behind
/// it. What begins with `$` is meant only by a pattern that does so too, and the audit only by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    denies: bool,
    verb: Option<Verb>,
    pattern: String,
}

/// A text is no scope.
#[derive(Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is no scope: {why}; write verb:category such as read:order, append:order-*, *:* or deny:read:payment, with the verbs read, append, command, query, operate, admin and *"
)]
pub struct ScopeError {
    text: String,
    why: &'static str,
}

anabranch_model::debug_is_words!(ScopeError);

const DENY: &str = "deny:";

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let wrong = |why| ScopeError {
            text: text.to_owned(),
            why,
        };
        let rest = text.strip_prefix(DENY);
        let denies = rest.is_some();
        let (verb, pattern) = rest
            .unwrap_or(text)
            .split_once(':')
            .ok_or_else(|| wrong("it has no colon"))?;
        let verb = match verb {
            "*" => None,
            name => {
                let known = Verb::ALL.into_iter().find(|verb| verb.name() == name);
                Some(known.ok_or_else(|| wrong("it does not begin with a verb"))?)
            }
        };
        if pattern.is_empty() || pattern.contains(char::is_whitespace) {
            return Err(wrong("it names nothing"));
        }
        if pattern[..pattern.len() - 1].contains('*') {
            return Err(wrong("a * stands only at the end"));
        }
        Ok(Self {
            denies,
            verb,
            pattern: pattern.to_owned(),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deny = if self.denies { DENY } else { "" };
        let verb = self.verb.map_or("*", Verb::name);
        write!(f, "{deny}{verb}:{}", self.pattern)
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl Scope {
    fn is_about(&self, verb: Verb, name: &str) -> bool {
        self.verb.is_none_or(|own| own == verb) && self.matches(name)
    }

    fn matches(&self, name: &str) -> bool {
        let Some(beginning) = self.pattern.strip_suffix('*') else {
            return self.pattern == name;
        };
        // What denies may be written widely.
        let is_wide = self.denies
            || (name != AUDIT && name.starts_with('$') == self.pattern.starts_with('$'));
        is_wide && name.starts_with(beginning)
    }
}

/// All that a principal may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Everything there is.
    pub fn everything() -> Self {
        let all = [
            (None, "*".to_owned()),
            (None, "$*".to_owned()),
            (Some(Verb::Read), AUDIT.to_owned()),
        ];
        let scope = |(verb, pattern)| Scope {
            denies: false,
            verb,
            pattern,
        };
        Self(all.into_iter().map(scope).collect())
    }

    /// Whether `verb` may be done to what has this name: a category, a view, a service. A name that begins
    /// with `$` is read and appended by who may operate it; but the audit by who may just that.
    pub fn allow(&self, verb: Verb, name: &str) -> bool {
        let needed = verb.needed_for(name);
        // A denial holds by either of the two verbs.
        let is_denied = |scope: &Scope| {
            scope.denies && (scope.is_about(needed, name) || scope.is_about(verb, name))
        };
        let is_allowed = |scope: &Scope| !scope.denies && scope.is_about(needed, name);
        self.0.iter().any(is_allowed) && !self.0.iter().any(is_denied)
    }

    /// Whether `verb` may be done to all that does not begin with `$`.
    pub fn allow_all(&self, verb: Verb) -> bool {
        let is_by = |scope: &&Scope| scope.verb.is_none_or(|own| own == verb);
        let mut by = self.0.iter().filter(is_by);
        let is_allowed = by
            .clone()
            .any(|scope| !scope.denies && scope.pattern == "*");
        is_allowed && !by.any(|scope| scope.denies && !scope.pattern.starts_with('$'))
    }

    /// Whether there is anything at all to which `verb` may be done.
    pub fn allow_some(&self, verb: Verb) -> bool {
        let by: &[Verb] = match verb {
            Verb::Read => &[Verb::Read, Verb::Operate],
            Verb::Append => &[Verb::Append, Verb::Operate, Verb::Admin],
            ref other => std::slice::from_ref(other),
        };
        let is_about = |own: Option<Verb>| own.is_none_or(|own| by.contains(&own));
        self.0
            .iter()
            .any(|scope| !scope.denies && is_about(scope.verb))
    }

    /// Those that these are the texts of.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, ScopeError> {
        texts.into_iter().map(str::parse).collect()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether there is none, so that nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(texts: &[&str]) -> Scopes {
        Scopes::parse(texts.iter().copied()).unwrap()
    }

    #[test]
    fn what_no_scope_allows_is_refused() {
        assert!(!Scopes::default().allow(Verb::Read, "order"));
        let some = scopes(&["read:order", "append:order-*"]);
        assert!(some.allow(Verb::Read, "order"));
        assert!(some.allow(Verb::Append, "order-1"));
        for (verb, name) in [
            (Verb::Append, "order"),
            (Verb::Read, "order-1"),
            (Verb::Read, "orde"),
            (Verb::Query, "order"),
        ] {
            assert!(!some.allow(verb, name), "{verb:?} {name}");
        }
    }

    #[test]
    fn a_scope_that_denies_beats_all_that_allow_wherever_it_stands() {
        for texts in [
            ["*:*", "read:payment", "deny:read:pay*"],
            ["deny:read:pay*", "read:payment", "*:*"],
        ] {
            let scopes = scopes(&texts);
            assert!(!scopes.allow(Verb::Read, "payment"));
            assert!(scopes.allow(Verb::Append, "payment"));
            assert!(scopes.allow(Verb::Read, "order"));
        }
    }

    #[test]
    fn what_begins_with_a_dollar_needs_to_be_operated_by_name() {
        let wide = scopes(&["*:*"]);
        assert!(!wide.allow(Verb::Read, "$schema"));
        let reader = scopes(&["read:$*"]);
        assert!(!reader.allow(Verb::Read, "$schema"));
        let operator = scopes(&["operate:$*"]);
        assert!(operator.allow(Verb::Read, "$schema"));
        assert!(operator.allow(Verb::Append, "$schema"));
        assert!(!operator.allow(Verb::Operate, "order"));
        // But keys are not theirs to make.
        assert!(!operator.allow(Verb::Append, CATEGORY));
        assert!(scopes(&["admin:$access"]).allow(Verb::Append, CATEGORY));
    }

    #[test]
    fn all_is_allowed_by_a_scope_of_all_where_none_denies_a_part_of_it() {
        for all in [&["read:*"][..], &["*:*"], &["read:*", "deny:read:$*"]] {
            assert!(scopes(all).allow_all(Verb::Read), "{all:?}");
        }
        for some in [
            &["read:a*", "*:$*"][..],
            &["read:*", "deny:read:a"],
            &["append:*"],
        ] {
            assert!(!scopes(some).allow_all(Verb::Read), "{some:?}");
        }
    }

    #[test]
    fn the_audit_has_a_scope_of_its_own() {
        assert!(!scopes(&["*:*", "*:$*", "operate:$audit"]).allow(Verb::Read, AUDIT));
        assert!(scopes(&["read:$audit"]).allow(Verb::Read, AUDIT));
        assert!(Scopes::everything().allow(Verb::Read, AUDIT));
        assert!(!Scopes::everything().allow(Verb::Append, AUDIT));
    }

    #[test]
    fn whoever_may_everything_may_each_verb_on_each_name_but_forge_the_audit() {
        for verb in Verb::ALL {
            for name in ["order", "$schema", "ünïcode"] {
                assert!(Scopes::everything().allow(verb, name), "{verb:?} {name}");
            }
        }
    }

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for text in [
            "read:order",
            "*:*",
            "deny:append:order-*",
            "operate:$schema",
        ] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "read",
            "read:",
            "reed:order",
            "read:*x",
            "read:a b",
            "deny:order",
        ] {
            let error = wrong.parse::<Scope>().unwrap_err().to_string();
            assert!(error.contains("write verb:category"), "{wrong}: {error}");
        }
    }
}
