use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{ReaderTypes, ServiceTypes};
use crate::saga::SAGA_ENDS;

/// A service reads what another one keeps to itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PrivateRead {
    /// Who reads: `view prices of service shop`, or `service shop`.
    pub reader: String,
    /// What it reads.
    pub category: String,
    /// The service whose that is.
    pub owner: String,
    /// What that one writes for others.
    pub published: Vec<String>,
}

impl fmt::Display for PrivateRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reader,
            category,
            owner,
            published,
        } = self;
        write!(
            f,
            "{reader} reads {category}, which is private to service {owner}"
        )?;
        match published.as_slice() {
            [] => f.write_str("; it publishes nothing"),
            all => write!(f, "; read what it publishes: {}", all.join(", ")),
        }
    }
}

/// A category that a service keeps to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The service.
    pub owner: String,
    /// The types of its events that others may read all the same.
    pub open: BTreeSet<String>,
    /// The categories that the service writes for others.
    pub published: Vec<String>,
}

/// What services keep to themselves, by category: what each of them, operators, and nobody else reads.
/// It is the same in a fleet of one process and at the server of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privacy(BTreeMap<String, Kept>);

/// Somebody of a service reads a category.
#[derive(Debug, Clone, Copy)]
pub struct Reads<'a> {
    /// The reader, if it has a name of its own.
    pub reader: Option<&'a ReaderTypes>,
    /// What it reads.
    pub category: &'a str,
}

impl Privacy {
    /// What nobody but its owner and operators read, if that is so of this category.
    pub fn of(&self, category: &str) -> Option<&Kept> {
        self.0.get(category)
    }

    /// The categories that a service keeps to itself.
    pub fn kept_by(&self, service: &str) -> impl Iterator<Item = &str> {
        let all = self.0.iter();
        all.filter_map(move |(category, kept)| (kept.owner == service).then_some(&**category))
    }

    /// All that is kept, by category.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Kept)> {
        let all = self.0.iter();
        all.map(|(category, kept)| (category.as_str(), kept))
    }

    /// Whether nothing is kept from anybody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From now on a category is kept so.
    pub fn keep(&mut self, category: &str, kept: Kept) {
        self.0.insert(category.to_owned(), kept);
    }

    /// From now on a category is for everybody.
    pub fn open(&mut self, category: &str) {
        self.0.remove(category);
    }

    /// From now on a service keeps this and nothing else.
    pub fn keep_all(&mut self, types: &ServiceTypes) {
        self.0.retain(|_, kept| kept.owner != types.service);
        let published = types.published();
        for (category, open) in types.kept() {
            let kept = Kept {
                owner: types.service.clone(),
                open,
                published: published.clone(),
            };
            self.0.insert(category, kept);
        }
    }

    /// The first thing that a service reads and another one keeps to itself.
    pub fn refuses<'a>(
        &self,
        service: &str,
        reads: impl IntoIterator<Item = Reads<'a>>,
    ) -> Option<PrivateRead> {
        reads.into_iter().find_map(|Reads { reader, category }| {
            let kept = self.of(category).filter(|kept| kept.owner != service)?;
            let wants = reader.map(|reader| &reader.events.kinds);
            let is_open = |types: &Vec<super::KindTypes>| {
                types.iter().all(|kind| kept.open.contains(&kind.name))
            };
            if !kept.open.is_empty() && wants.is_none_or(is_open) {
                return None;
            }
            let reader = match reader {
                Some(ReaderTypes { what, name, .. }) => {
                    format!("{what} {name} of service {service}")
                }
                None => format!("service {service}"),
            };
            Some(PrivateRead {
                reader,
                category: category.to_owned(),
                owner: kept.owner.clone(),
                published: kept.published.clone(),
            })
        })
    }
}

impl ServiceTypes {
    /// Whether a category is its own business: it says so, or it is a journal of it.
    pub fn keeps(&self, category: &str) -> bool {
        self.private.contains(category) || self.journals.iter().any(|journal| journal == category)
    }

    /// The categories that are its own business. With each, the types of events in it that others may
    /// read all the same: how a saga has ended.
    pub fn kept(&self) -> BTreeMap<String, BTreeSet<String>> {
        let private = self.private.iter().map(|own| (own, BTreeSet::new()));
        let journals = self.journals.iter().map(|journal| {
            let open: &[&str] = match self.sagas.contains_key(journal) {
                true => &SAGA_ENDS,
                false => &[],
            };
            let open = open.iter().map(|&name| name.to_owned());
            (journal, open.collect())
        });
        let all = private.chain(journals);
        all.map(|(category, open)| (category.clone(), open))
            .collect()
    }

    /// Whether its entities write in this category.
    pub fn writes(&self, category: &str) -> bool {
        self.entities.iter().any(|of| of.category == category)
    }

    /// The categories that it writes for others to read.
    pub fn published(&self) -> Vec<String> {
        let all = self.entities.iter().map(|of| &of.category);
        all.filter(|category| !self.keeps(category))
            .cloned()
            .collect()
    }

    /// Who of it reads what.
    pub fn reads(&self) -> impl Iterator<Item = Reads<'_>> {
        self.readers.iter().flat_map(|reader| {
            let categories = reader.categories.iter();
            categories.map(move |category| Reads {
                reader: Some(reader),
                category,
            })
        })
    }
}
