mod probe;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use probe::shape_of_variant;

/// What data looks like, as far as serde tells: what a type asks for when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Nobody can tell.
    Unknown,
    /// Whatever comes.
    Any,
    /// `null`, or nothing at all.
    Nothing,
    /// `true` or `false`.
    Bool,
    /// A whole number of so many bits, without a sign.
    Unsigned(u32),
    /// A whole number of so many bits, with a sign.
    Signed(u32),
    /// A number with a fraction, of so many bits.
    Float(u32),
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// It, or `null`.
    Optional(Box<Shape>),
    /// Any number of it.
    List(Box<Shape>),
    /// Any number of it, by name.
    Map(Box<Shape>),
    /// One of each.
    Tuple(Vec<Shape>),
    /// One of these names, possibly with something that it holds.
    OneOf(Vec<String>),
    /// Fields by name.
    Fields(BTreeMap<String, Field>),
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// What it looks like.
    pub shape: Shape,
    /// Whether data without it cannot be read; `None`: nobody can tell.
    pub required: Option<bool>,
}

/// Why data of one shape cannot be read as another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The new shape needs what the old one may lack.
    Required {
        /// The field.
        field: String,
    },
    /// A value has another type.
    Changed {
        /// The field; empty for the data as a whole.
        field: String,
        /// What it was.
        from: String,
        /// What it is.
        to: String,
    },
    /// A name that the old shape has is not known any more.
    ValueRemoved {
        /// The field.
        field: String,
        /// The name.
        value: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required { field } => {
                write!(f, "needs the field `{field}`, which stored events may lack")
            }
            Self::Changed { field, from, to } if field.is_empty() => {
                write!(f, "expects {to} where stored events have {from}")
            }
            Self::Changed { field, from, to } => {
                write!(
                    f,
                    "expects {to} in `{field}`, where stored events have {from}"
                )
            }
            Self::ValueRemoved { field, value } => {
                write!(
                    f,
                    "does not know {value:?}, which stored events may have in `{field}`"
                )
            }
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("something unknown"),
            Self::Any => f.write_str("anything"),
            Self::Nothing => f.write_str("nothing"),
            Self::Bool => f.write_str("true or false"),
            Self::Unsigned(bits) => write!(f, "u{bits}"),
            Self::Signed(bits) => write!(f, "i{bits}"),
            Self::Float(bits) => write!(f, "f{bits}"),
            Self::Text => f.write_str("text"),
            Self::Bytes => f.write_str("bytes"),
            Self::Optional(inner) => write!(f, "{inner} or null"),
            Self::List(inner) => write!(f, "a list of {inner}"),
            Self::Map(inner) => write!(f, "a map of {inner}"),
            Self::Tuple(parts) => {
                let parts: Vec<_> = parts.iter().map(Shape::to_string).collect();
                write!(f, "[{}]", parts.join(", "))
            }
            Self::OneOf(names) => write!(f, "one of {}", names.join(", ")),
            Self::Fields(fields) => {
                let optional = |field: &Field| match field.required {
                    Some(true) => "",
                    _ => "?",
                };
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(name, field)| format!("{name}{}: {}", optional(field), field.shape))
                    .collect();
                write!(f, "{{{}}}", fields.join(", "))
            }
        }
    }
}

impl Shape {
    /// Why data that was written as `old` cannot be read as this shape; empty when it can, as
    /// far as anybody can tell.
    pub fn mismatches(&self, old: &Self) -> Vec<Mismatch> {
        let mut found = Vec::new();
        compare(old, self, "", &mut found);
        found
    }
}

fn compare(old: &Shape, new: &Shape, at: &str, found: &mut Vec<Mismatch>) {
    use Shape::{Any, Fields, List, Map, Nothing, OneOf, Optional, Text, Tuple, Unknown};
    match (old, new) {
        (Unknown | Any, _) | (_, Unknown | Any) => {}
        (Optional(old), Optional(new)) => compare(old, new, at, found),
        (old, Optional(new)) => compare(old, new, at, found),
        (Optional(_), _) => found.push(Mismatch::Required {
            field: at.to_owned(),
        }),
        (List(old), List(new)) => compare(old, new, &format!("{at}[]"), found),
        (Map(old), Map(new)) => compare(old, new, &inside(at, "*"), found),
        (Tuple(old), Tuple(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(old, new, &inside(at, &index.to_string()), found);
            }
        }
        (OneOf(old), OneOf(new)) => {
            for value in old.iter().filter(|value| !new.contains(value)) {
                found.push(Mismatch::ValueRemoved {
                    field: at.to_owned(),
                    value: value.clone(),
                });
            }
        }
        (OneOf(_), Text) => {}
        (Fields(old), Fields(new)) => compare_fields(old, new, at, found),
        // A variant without fields is stored as one whose fields are none.
        (Nothing, Fields(new)) => compare_fields(&BTreeMap::new(), new, at, found),
        (Fields(_), Nothing) => {}
        (old, new) if old == new || widens(old, new) => {}
        (old, new) => found.push(Mismatch::Changed {
            field: at.to_owned(),
            from: old.to_string(),
            to: new.to_string(),
        }),
    }
}

fn compare_fields(
    old: &BTreeMap<String, Field>,
    new: &BTreeMap<String, Field>,
    at: &str,
    found: &mut Vec<Mismatch>,
) {
    for (name, field) in new {
        let inner = inside(at, name);
        let required = field.required == Some(true);
        match old.get(name) {
            None if required => found.push(Mismatch::Required { field: inner }),
            None => {}
            Some(before) if required && before.required == Some(false) => {
                found.push(Mismatch::Required { field: inner });
            }
            Some(before) => compare(&before.shape, &field.shape, &inner, found),
        }
    }
}

fn inside(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

/// Whether every value of `old` is one of `new`.
fn widens(old: &Shape, new: &Shape) -> bool {
    use Shape::{Float, Signed, Unsigned};
    match (old, new) {
        (Unsigned(old), Unsigned(new)) | (Signed(old), Signed(new)) | (Float(old), Float(new)) => {
            old <= new
        }
        (Unsigned(old), Signed(new)) => old < new,
        (Unsigned(_) | Signed(_), Float(_)) => true,
        _ => false,
    }
}
