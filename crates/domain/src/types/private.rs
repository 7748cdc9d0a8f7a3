use std::fmt;

use serde::Serialize;

use super::ServiceTypes;

/// A service reads what another one keeps to itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PrivateRead {
    /// Who reads: `view prices`.
    pub reader: String,
    /// The service that it is part of.
    pub service: String,
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
            service,
            category,
            owner,
            published,
        } = self;
        write!(
            f,
            "{reader} of service {service} reads {category}, which is private to service {owner}"
        )?;
        match published.as_slice() {
            [] => f.write_str("; it publishes nothing"),
            all => write!(f, "; read what it publishes: {}", all.join(", ")),
        }
    }
}

impl ServiceTypes {
    /// Whether a category is its own business: it says so, or it is a journal of it.
    pub fn keeps(&self, category: &str) -> bool {
        self.private.contains(category) || self.journals.iter().any(|journal| journal == category)
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
}

/// The first thing that one of these reads and the other one keeps to itself.
pub fn private_read(one: &ServiceTypes, other: &ServiceTypes) -> Option<PrivateRead> {
    read_of(one, other).or_else(|| read_of(other, one))
}

fn read_of(service: &ServiceTypes, owner: &ServiceTypes) -> Option<PrivateRead> {
    if service.service == owner.service {
        return None;
    }
    let reads = service.readers.iter();
    let mut reads = reads.flat_map(|reader| reader.categories.iter().map(move |of| (reader, of)));
    let (reader, category) = reads.find(|(_, category)| owner.keeps(category))?;
    Some(PrivateRead {
        reader: format!("{} {}", reader.what, reader.name),
        service: service.service.clone(),
        category: category.clone(),
        owner: owner.service.clone(),
        published: owner.published(),
    })
}
