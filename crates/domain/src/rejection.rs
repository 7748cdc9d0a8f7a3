use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// A business "no": the command was understood and is not allowed now. Not a fault; nothing
/// was changed.
///
/// Use it as it is, or make your own enum and let the derive of the same name convert it.
///
/// ```
/// use anabranch_domain::Rejection;
/// use serde::Serialize;
///
/// #[derive(Debug, thiserror::Error, Serialize, Rejection)]
/// enum StockRejection {
///     #[error("only {left} left")]
///     OutOfStock { left: u32 },
/// }
///
/// let rejection = Rejection::from(StockRejection::OutOfStock { left: 3 });
/// assert_eq!(rejection.code, "out-of-stock");
/// assert_eq!(rejection.to_string(), "only 3 left (out-of-stock)");
/// assert_eq!(rejection.data.as_str(), r#"{"left":3}"#);
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// For programs: stable, in kebab-case, for example `out-of-stock`.
    pub code: Cow<'static, str>,
    /// For people: what is in the way.
    pub message: String,
    /// Details for programs; `null` when there are none.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub data: Json,
    /// Whether the same command may be allowed a little later, for example when a lock is
    /// released. A saga then asks again until its step's time is up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub try_again: bool,
}

impl Rejection {
    /// A rejection without details.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            data: Json::null(),
            try_again: false,
        }
    }

    /// The rejection that an enum's value says: the code is the variant's name in kebab-case,
    /// the message its `Display` form, the data what the variant holds.
    pub fn of<T: Serialize + fmt::Display + ?Sized>(value: &T) -> Self {
        let mut data = Vec::new();
        let (code, data) = match crate::wire::encode(value, &mut data) {
            Ok(name) => (kebab_case(name).into(), Json::from_slice(&data)),
            // No name to take: the message still says what is in the way.
            Err(_) => (Cow::Borrowed("rejected"), Ok(Json::null())),
        };
        Self {
            code,
            message: value.to_string(),
            data: data.unwrap_or_default(),
            try_again: false,
        }
    }

    /// The same rejection with details for programs.
    #[must_use]
    pub fn with_data(mut self, data: Json) -> Self {
        self.data = data;
        self
    }

    /// The same rejection, only for now: the sender may ask again.
    #[must_use]
    pub fn for_now(mut self) -> Self {
        self.try_again = true;
        self
    }
}

fn kebab_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

anabranch_model::debug_is_words!(Rejection);

impl std::error::Error for Rejection {}
