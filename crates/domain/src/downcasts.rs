//! How programs of an older version read what this one writes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::codec::EventKind;
use crate::shape::{Field, Shape};
use crate::upcasts::SchemaError;

/// How older programs read what this one writes: steps from one (type, version) to the one before.
/// They are data, not code: a service says them in the log, and readers that were built before it run
/// them.
///
/// ```
/// use anabranch_domain::{Downcasts, FieldChange};
/// use serde_json::json;
///
/// fn downcasts() -> Downcasts {
///     Downcasts::none()
///         // Version 1 had `total`, and no `gift` but a `note`.
///         .change("OrderPlaced", 2, [
///             FieldChange::rename("total_pence", "total"),
///             FieldChange::drop("gift"),
///             FieldChange::default("note", json!("")),
///         ])
///         // Older entities pass over it.
///         .pass_over("OrderGiftWrapped")
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Downcasts(Vec<Downcast>);

/// Whether a program knows events of this name at this version; `None`: at any.
pub type IsKnown<'a> = dyn Fn(&str, Option<u32>) -> bool + 'a;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downcast {
    /// The type name.
    #[serde(rename = "type")]
    name: String,
    /// The schema version; `None`: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// What it is read as; `None`: it is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<(String, u32)>,
    /// What becomes of its data, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldChange>,
}

/// What becomes of a field of the newer data. Fields of fields are named by dots: `customer.name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FieldChange {
    /// Older programs know it by another name.
    Rename {
        /// The field of the newer data.
        from: String,
        /// Its older name.
        to: String,
    },
    /// Older programs do not see it.
    Drop {
        /// The field.
        field: String,
    },
    /// Where it is missing, older programs see this.
    Default {
        /// The field.
        field: String,
        /// What they see.
        value: Value,
    },
}

impl FieldChange {
    /// Older programs know the field `from` as `to`.
    pub fn rename(from: &str, to: &str) -> Self {
        Self::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }

    /// Older programs do not see this field.
    pub fn drop(field: &str) -> Self {
        Self::Drop {
            field: field.to_owned(),
        }
    }

    /// Where this field is missing, older programs see `value`.
    pub fn default(field: &str, value: impl Into<Value>) -> Self {
        Self::Default {
            field: field.to_owned(),
            value: value.into(),
        }
    }

    /// Changes the data. What is not there is not renamed.
    fn apply(&self, data: &mut Value) {
        match self {
            Self::Rename { from, to } => {
                if let Some(value) = take(data, from) {
                    put(data, to, value);
                }
            }
            Self::Drop { field } => drop(take(data, field)),
            Self::Default { field, value } => {
                if !has(data, field) {
                    put(data, field, value.clone());
                }
            }
        }
    }
}

impl FieldChange {
    /// Changes what the data looks like.
    fn apply_to_shape(&self, shape: &mut Shape) {
        match self {
            Self::Rename { from, to } => {
                if let Some(field) = take_field(shape, from) {
                    put_field(shape, to, field);
                }
            }
            Self::Drop { field } => drop(take_field(shape, field)),
            Self::Default { field, .. } => {
                let mut given = take_field(shape, field).unwrap_or(UNKNOWN);
                given.required = Some(true);
                put_field(shape, field, given);
            }
        }
    }
}

/// Of what nothing is claimed.
const UNKNOWN: Field = Field {
    shape: Shape::Unknown,
    required: None,
};

fn take_field(shape: &mut Shape, field: &str) -> Option<Field> {
    let Shape::Fields(fields) = shape else {
        // Inside something else nobody can tell.
        return (!matches!(shape, Shape::Nothing)).then_some(UNKNOWN);
    };
    match field.split_once('.') {
        Some((outer, inner)) => take_field(&mut fields.get_mut(outer)?.shape, inner),
        None => fields.remove(field),
    }
}

fn put_field(shape: &mut Shape, field: &str, new: Field) {
    if matches!(shape, Shape::Nothing) {
        *shape = Shape::Fields(BTreeMap::new());
    }
    let Shape::Fields(fields) = shape else { return };
    match field.split_once('.') {
        Some((outer, inner)) => {
            let outer = fields.entry(outer.to_owned()).or_insert(Field {
                shape: Shape::Nothing,
                required: new.required,
            });
            put_field(&mut outer.shape, inner, new);
        }
        None => drop(fields.insert(field.to_owned(), new)),
    }
}

fn has(data: &Value, field: &str) -> bool {
    match field.split_once('.') {
        Some((outer, inner)) => data.get(outer).is_some_and(|outer| has(outer, inner)),
        None => data.get(field).is_some(),
    }
}

fn take(data: &mut Value, field: &str) -> Option<Value> {
    match field.split_once('.') {
        Some((outer, inner)) => take(data.get_mut(outer)?, inner),
        None => data.as_object_mut()?.remove(field),
    }
}

fn put(data: &mut Value, field: &str, value: Value) {
    // A variant without fields is stored as null.
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    let Some(object) = data.as_object_mut() else {
        return;
    };
    match field.split_once('.') {
        Some((outer, inner)) => put(object.entry(outer).or_insert(Value::Null), inner, value),
        None => drop(object.insert(field.to_owned(), value)),
    }
}

impl Downcasts {
    /// No steps: older programs read no newer version.
    pub fn none() -> Self {
        Self::default()
    }

    /// The data of `name` at `version` becomes, by these changes, that of the version before.
    #[must_use]
    pub fn change(
        mut self,
        name: &str,
        version: u32,
        fields: impl IntoIterator<Item = FieldChange>,
    ) -> Self {
        self.0.push(Downcast {
            name: name.to_owned(),
            version: Some(version),
            to: Some((name.to_owned(), version.saturating_sub(1))),
            fields: fields.into_iter().collect(),
        });
        self
    }

    /// Events of one name and version are read as another, with the same data.
    ///
    /// The entities of an older program read it so. Views, processes and sagas of other services ask
    /// the log for the names that they know when they start: let those know the new name first, by an
    /// [upcast](crate::Upcasts::rename).
    #[must_use]
    pub fn rename(mut self, from: (&str, u32), to: (&str, u32)) -> Self {
        self.0.push(Downcast {
            name: from.0.to_owned(),
            version: Some(from.1),
            to: Some((to.0.to_owned(), to.1)),
            fields: Vec::new(),
        });
        self
    }

    /// Programs that do not know events of this name pass over them.
    #[must_use]
    pub fn pass_over(mut self, name: &str) -> Self {
        self.0.push(Downcast {
            name: name.to_owned(),
            version: None,
            to: None,
            fields: Vec::new(),
        });
        self
    }

    /// The steps of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for step in other.0 {
            self.0
                .retain(|known| (&known.name, known.version) != (&step.name, step.version));
            self.0.push(step);
        }
        self
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn step(&self, name: &str, version: u32, is_known: &IsKnown<'_>) -> Option<&Downcast> {
        let of = |version| {
            let mut steps = self.0.iter();
            steps.find(move |step| step.name == name && step.version == version)
        };
        // Who knows the name does not lose its newer events in silence.
        of(Some(version)).or_else(|| of(None).filter(|_| !is_known(name, None)))
    }

    /// The steps that lead from `name` at `version` to what is known, and what that is.
    pub(crate) fn way<'a>(
        &'a self,
        name: &'a str,
        version: u32,
        is_known: &IsKnown<'_>,
    ) -> Option<Way<'a>> {
        let (mut at, mut steps) = ((name, version), Vec::new());
        while !is_known(at.0, Some(at.1)) {
            let step = self.step(at.0, at.1, is_known)?;
            // What goes round in a circle leads nowhere.
            if steps.len() >= self.0.len() {
                return None;
            }
            steps.push(step);
            match &step.to {
                Some((name, version)) => at = (name, *version),
                None => return Some(Way::PassedOver),
            }
        }
        Some(Way::To {
            name: at.0,
            version: at.1,
            steps,
        })
    }

    /// Whether older programs that know these read events of this name and version.
    pub fn leads(&self, name: &str, version: u32, is_known: &IsKnown<'_>) -> bool {
        self.way(name, version, is_known).is_some()
    }

    /// What data of this name and version, which looks so, looks like to older programs that know these; `None` if nothing leads
    /// there.
    pub fn shape(
        &self,
        (name, version): (&str, u32),
        shape: &Shape,
        is_known: &IsKnown<'_>,
    ) -> Option<Shape> {
        match self.way(name, version, is_known)? {
            Way::PassedOver => Some(Shape::Unknown),
            Way::To { steps, .. } => {
                let mut shape = shape.clone();
                let changes = steps.iter().flat_map(|step| &step.fields);
                changes.for_each(|change| change.apply_to_shape(&mut shape));
                Some(shape)
            }
        }
    }

    /// The names that it leads on from.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        let names = self.0.iter();
        names.filter_map(|step| Some((step.name.as_str(), step.version?)))
    }

    /// Checks that the steps begin at what is written or at what another step leads to.
    pub(crate) fn check(&self, kinds: &[EventKind]) -> Result<(), SchemaError> {
        for step in &self.0 {
            let name = step.name.clone();
            let wrong = |why: &str| {
                Err(SchemaError::Downcast {
                    name: name.clone(),
                    version: step.version.unwrap_or_default(),
                    why: why.to_owned(),
                })
            };
            let written = kinds.iter().find(|kind| kind.name == step.name);
            let follows = self.0.iter().any(|other| {
                let to = other.to.as_ref();
                to.is_some_and(|(name, version)| {
                    *name == step.name && Some(*version) == step.version
                })
            });
            match (written, step.version) {
                (Some(_), None) => {}
                (Some(kind), Some(version)) if version > kind.version => {
                    return wrong("this version is not written");
                }
                (None, _) if !follows => return wrong("nobody writes this type"),
                _ => {}
            }
            if matches!(&step.to, Some((name, 0)) if *name == step.name) {
                return wrong("there is no version before the first");
            }
            let same =
                |other: &&Downcast| (&other.name, other.version) == (&step.name, step.version);
            if self.0.iter().filter(same).count() > 1 {
                return wrong("two steps begin there; keep one");
            }
        }
        Ok(())
    }
}

/// How a newer event becomes one that is known.
pub(crate) enum Way<'a> {
    /// It is passed over.
    PassedOver,
    /// It becomes this, by these steps.
    To {
        name: &'a str,
        version: u32,
        steps: Vec<&'a Downcast>,
    },
}

/// An event as an older program reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lowered {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) data: Vec<u8>,
}

impl Lowered {
    /// Makes it by these steps; `None` if the data is no JSON.
    pub(crate) fn make(name: &str, version: u32, steps: &[&Downcast], data: &[u8]) -> Option<Self> {
        let mut value: Value = serde_json::from_slice(data).ok()?;
        let changes = steps.iter().flat_map(|step| &step.fields);
        changes.for_each(|change| change.apply(&mut value));
        Some(Self {
            name: name.to_owned(),
            version,
            data: value.to_string().into_bytes(),
        })
    }
}

/// What the log says of versions that are newer than a program knows, by category. One for all readers
/// of a service; who hosts them keeps it up to date.
#[derive(Default)]
pub struct Newer(RwLock<BTreeMap<String, Arc<Downcasts>>>);

impl Newer {
    /// These hold for this category from now on. Whether that is news.
    pub fn learn(&self, category: &str, downcasts: Downcasts) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = match known.get(category) {
            Some(known) => **known != downcasts,
            None => !downcasts.is_empty(),
        };
        if is_news {
            known.insert(category.to_owned(), Arc::new(downcasts));
        }
        is_news
    }

    pub(crate) fn of(&self, category: &str) -> Option<Arc<Downcasts>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(category).cloned()
    }

    /// The names of newer events that are read as what is known.
    pub(crate) fn names(&self, is_known: &IsKnown<'_>) -> Vec<String> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut names = Vec::new();
        for downcasts in known.values() {
            let leads = downcasts.names().filter(|(name, version)| {
                matches!(
                    downcasts.way(name, *version, is_known),
                    Some(Way::To { .. })
                )
            });
            names.extend(leads.map(|(name, _)| name.to_owned()));
        }
        names
    }
}

impl fmt::Debug for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_map().entries(known.iter()).finish()
    }
}
