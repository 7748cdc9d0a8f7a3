use serde_json::{Value, json};

/// Whose spans and figures they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    service: String,
}

impl Resource {
    /// A service of this name.
    pub fn named(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let attributes = [
            ("service.name", self.service.as_str()),
            ("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let attributes = attributes.map(|(name, value)| attribute(name, &text(value)));
        json!({ "attributes": attributes })
    }
}

/// Who has made them.
pub fn scope() -> Value {
    json!({"name": "anabranch", "version": env!("CARGO_PKG_VERSION")})
}

pub fn attribute(name: &str, value: &Value) -> Value {
    json!({"key": name, "value": value})
}

pub fn text(value: &str) -> Value {
    json!({"stringValue": value})
}

/// Numbers of 64 bits are texts there.
pub fn number(value: i128) -> Value {
    json!({"intValue": value.to_string()})
}
