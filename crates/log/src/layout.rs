//! How the streams of a log are spread over its partitions.

use std::fmt;
use std::str::FromStr;

use anabranch_model::{PartitionId, StreamId};
use thiserror::Error;

/// The most partitions that a log may have, the one of system streams included.
pub const PARTITIONS_MAX: u32 = 1_024;
/// The name of the partition 0 of several, for people.
pub const SYSTEM: &str = "system";
/// The name of the partitions of whatever no group names, for people.
pub const REST: &str = "rest";

/// Streams of the platform that stand beside another one, which their key names.
const BESIDE: &str = "$settled";

/// Which partition each stream of a log stands in: made with the log, and kept in it.
///
/// Either there is one partition, which has every stream, or there are several. Of several,
/// partition 0 has the streams of the platform itself, whose category begins with `$`, and
/// nothing else (but what one append writes beside a stream, as `$settled/order/7`, stands in
/// that one's); those of the groups follow in the order of the groups; those of the rest are
/// the last. Within a group or the rest a fixed hash of the *key* picks the partition, so
/// `order/7` and `payment/7` of one group stand together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    groups: Vec<Group>,
    /// 0 only where there is one partition.
    rest: u32,
}

/// Categories that share some partitions. The text form is `trade=order,payment:8`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// What it is called.
    pub name: String,
    /// Its categories, at least one.
    pub categories: Vec<String>,
    /// How many partitions it has, at least one.
    pub count: u32,
}

/// Why there can be no such layout.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// A text that is no group.
    #[error(
        "{text:?} is not a group; write its name, its categories and how many partitions it has, for example trade=order,payment:8"
    )]
    NotAGroup {
        /// The text.
        text: String,
    },
    /// A name that no group or category may have.
    #[error(
        "{name:?} cannot be the name of a group or a category: it is empty, begins with '$', or holds a comma, a slash, '=', a space at its ends or a control character"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A name that means something else.
    #[error("a group cannot be called {name:?}, which names partitions of no group")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// Two groups of one name.
    #[error("two groups are called {name:?}")]
    SameName {
        /// The name.
        name: String,
    },
    /// A category that is named twice.
    #[error("the category {category:?} is in the group {first:?} and again in {second:?}")]
    SameCategory {
        /// The category.
        category: String,
        /// The group that names it first.
        first: String,
        /// The group that names it again.
        second: String,
    },
    /// A group or a rest without partitions.
    #[error("{name} has no partitions; give it at least 1")]
    NoPartitions {
        /// The group, or the rest.
        name: String,
    },
    /// More partitions than a log may have.
    #[error("that is {partitions} partitions; a log may have at most {PARTITIONS_MAX}")]
    TooMany {
        /// How many they would be.
        partitions: u64,
    },
}

anabranch_model::debug_is_words!(LayoutError);

impl Layout {
    /// One partition that has every stream.
    pub const fn one() -> Self {
        Self {
            groups: Vec::new(),
            rest: 0,
        }
    }

    /// Several: those of the groups, `rest` for the streams that no group names, and partition 0
    /// for system streams.
    ///
    /// # Errors
    ///
    /// A name cannot be used or is used twice, a group or the rest has no partitions, or there
    /// would be more than [`PARTITIONS_MAX`].
    pub fn new(groups: Vec<Group>, rest: u32) -> Result<Self, LayoutError> {
        for (at, group) in groups.iter().enumerate() {
            group.check()?;
            let before = &groups[..at];
            if before.iter().any(|other| other.name == group.name) {
                let name = group.name.clone();
                return Err(LayoutError::SameName { name });
            }
            for (i, category) in group.categories.iter().enumerate() {
                let first = before
                    .iter()
                    .find(|other| other.categories.contains(category))
                    .or_else(|| group.categories[..i].contains(category).then_some(group));
                if let Some(first) = first {
                    return Err(LayoutError::SameCategory {
                        category: category.clone(),
                        first: first.name.clone(),
                        second: group.name.clone(),
                    });
                }
            }
        }
        if rest == 0 {
            let name = "the rest, where the streams of no group stand,".to_owned();
            return Err(LayoutError::NoPartitions { name });
        }
        let counts = groups.iter().map(|group| u64::from(group.count));
        let partitions = 1 + u64::from(rest) + counts.sum::<u64>();
        if partitions > u64::from(PARTITIONS_MAX) {
            return Err(LayoutError::TooMany { partitions });
        }
        Ok(Self { groups, rest })
    }

    /// Whether there is one partition, which has every stream.
    pub const fn is_one(&self) -> bool {
        self.rest == 0
    }

    /// The groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How many partitions have the streams that no group names; 0 where there is one partition.
    pub const fn rest(&self) -> u32 {
        self.rest
    }

    /// How many partitions there are. Of several, partition 0 counts too.
    pub fn partitions(&self) -> u32 {
        1 + self.rest + self.groups.iter().map(|group| group.count).sum::<u32>()
    }

    /// The partitions, ascending.
    pub fn ids(&self) -> impl Iterator<Item = PartitionId> {
        (0..self.partitions()).map(PartitionId)
    }

    /// The partition that `stream` stands in.
    pub fn partition_of(&self, stream: &StreamId) -> PartitionId {
        if self.is_one() {
            return PartitionId(0);
        }
        let (category, key) = stream
            .as_str()
            .split_once('/')
            .unwrap_or((stream.as_str(), ""));
        let is_beside = category == BESIDE;
        match key.split_once('/') {
            Some((category, key)) if is_beside => self.place(category, key),
            _ if category.starts_with('$') => PartitionId(0),
            _ => self.place(category, key),
        }
    }

    /// The partition of a stream that is none of the platform's.
    fn place(&self, category: &str, key: &str) -> PartitionId {
        let mut first = 1;
        for group in &self.groups {
            if group.categories.iter().any(|name| name == category) {
                return within(first, group.count, key);
            }
            first += group.count;
        }
        within(first, self.rest, key)
    }

    /// Whether the streams of two categories that have one key stand in one partition, so that
    /// one append may write both.
    pub fn is_together(&self, one: &str, other: &str) -> bool {
        let group = |category: &str| {
            let has = |group: &Group| group.categories.iter().any(|name| name == category);
            (category.starts_with('$'), self.groups.iter().position(has))
        };
        self.is_one() || group(one) == group(other)
    }

    /// What the streams of a partition belong to: a group's name, `rest` or `system`. `None`
    /// where there is one partition, or none of that number.
    pub fn name_of(&self, partition: PartitionId) -> Option<&str> {
        if self.is_one() || partition.0 >= self.partitions() {
            return None;
        }
        if partition.0 == 0 {
            return Some(SYSTEM);
        }
        let mut end = 1;
        for group in &self.groups {
            end += group.count;
            if partition.0 < end {
                return Some(&group.name);
            }
        }
        Some(REST)
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::one()
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() {
            return f.write_str("one partition");
        }
        for group in &self.groups {
            write!(f, "{group}, ")?;
        }
        let several = self.partitions() - 1;
        let s = if several == 1 { "" } else { "s" };
        write!(
            f,
            "{REST}:{}: {several} partition{s}, and partition 0 for system streams",
            self.rest
        )
    }
}

/// The partition of a key among `count` from `first` on.
fn within(first: u32, count: u32, key: &str) -> PartitionId {
    // Less than `count`, so it fits.
    let place = (hash(key.as_bytes()) % u64::from(count)) as u32;
    PartitionId(first + place)
}

/// A name of a stream in few bytes, which another stream may share.
pub(crate) fn stream_hash(stream: &StreamId) -> u64 {
    hash(stream.as_str().as_bytes())
}

/// The hash of a key: FNV-1a of its bytes with 64 bits, its bits then mixed as MurmurHash3 ends.
/// Streams stand where it says for as long as the log lives, so it never changes.
fn hash(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl Group {
    fn check(&self) -> Result<(), LayoutError> {
        for name in self.categories.iter().chain([&self.name]) {
            let is_bad = name.is_empty()
                || name.starts_with('$')
                || name.trim() != name
                || name.contains([',', '/', '='])
                || name.contains(char::is_control);
            if is_bad {
                return Err(LayoutError::Name { name: name.clone() });
            }
        }
        if [SYSTEM, REST].contains(&self.name.as_str()) {
            return Err(LayoutError::ReservedName {
                name: self.name.clone(),
            });
        }
        if self.categories.is_empty() {
            return Err(LayoutError::NotAGroup {
                text: self.to_string(),
            });
        }
        if self.count == 0 {
            return Err(LayoutError::NoPartitions {
                name: format!("the group {:?}", self.name),
            });
        }
        Ok(())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let categories = self.categories.join(",");
        write!(f, "{}={categories}:{}", self.name, self.count)
    }
}

impl FromStr for Group {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let parts = || {
            let (name, rest) = text.split_once('=')?;
            let (categories, count) = rest.rsplit_once(':')?;
            Some(Self {
                name: name.to_owned(),
                categories: categories.split(',').map(str::to_owned).collect(),
                count: count.parse().ok()?,
            })
        };
        let group = parts().ok_or_else(|| LayoutError::NotAGroup {
            text: text.to_owned(),
        })?;
        group.check()?;
        Ok(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Layout {
        let groups = ["trade=order,payment,return:8", "stock=stock:4"];
        let groups = groups.map(|group| group.parse().unwrap());
        Layout::new(groups.into(), 2).unwrap()
    }

    fn place(layout: &Layout, stream: &str) -> u32 {
        layout.partition_of(&StreamId::system(stream).unwrap()).0
    }

    #[test]
    fn one_partition_has_every_stream() {
        let one = Layout::one();
        assert_eq!(one.partitions(), 1);
        assert_eq!(one.to_string(), "one partition");
        for stream in ["order/1", "$service/orders"] {
            assert_eq!(place(&one, stream), 0);
        }
        assert_eq!(one.name_of(PartitionId(0)), None);
    }

    #[test]
    fn streams_of_one_key_in_a_group_stand_together() {
        let shop = shop();
        for key in 0..1_000 {
            let order = place(&shop, &format!("order/{key}"));
            assert!((1..=8).contains(&order), "order/{key} is in {order}");
            assert_eq!(place(&shop, &format!("payment/{key}")), order);
            assert_eq!(place(&shop, &format!("return/{key}")), order);
            let stock = place(&shop, &format!("stock/{key}"));
            assert!((9..=12).contains(&stock), "stock/{key} is in {stock}");
            let price = place(&shop, &format!("price/{key}"));
            assert!((13..=14).contains(&price), "price/{key} is in {price}");
        }
    }

    #[test]
    fn what_is_written_beside_a_stream_stands_with_it() {
        let shop = shop();
        for stream in ["order/7", "stock/85123A", "price/a/b"] {
            let beside = format!("$settled/{stream}");
            assert_eq!(place(&shop, &beside), place(&shop, stream));
        }
        assert_eq!(place(&shop, "$settled/order"), 0);
    }

    #[test]
    fn categories_are_together_in_a_group_or_in_the_rest() {
        let shop = shop();
        assert!(shop.is_together("order", "payment"));
        assert!(shop.is_together("price", "shipment"));
        assert!(!shop.is_together("order", "stock"));
        assert!(!shop.is_together("order", "price"));
        assert!(!shop.is_together("price", "$price"));
        assert!(Layout::one().is_together("order", "stock"));
    }

    #[test]
    fn partition_0_of_several_has_system_streams_and_no_others() {
        let shop = shop();
        assert_eq!(shop.partitions(), 15);
        for stream in ["$service/orders", "$owner/order", "$x/a/b"] {
            assert_eq!(place(&shop, stream), 0);
        }
        for partition in shop.ids() {
            let name = match partition.0 {
                0 => "system",
                1..=8 => "trade",
                9..=12 => "stock",
                _ => "rest",
            };
            assert_eq!(shop.name_of(partition), Some(name));
        }
        assert_eq!(shop.name_of(PartitionId(15)), None);
    }

    #[test]
    fn a_stream_stands_where_it_stood_in_every_version() {
        // Logs are laid out by these: a number here never changes.
        assert_eq!(hash(b""), 0xefd0_1f60_ba99_2926);
        let shop = shop();
        let places = [
            "order/7",
            "order/536365",
            "payment/536365",
            "stock/85123A",
            "price/85123A",
            "shipment/a/b/c",
            "order/ü",
        ];
        let places = places.map(|stream| place(&shop, stream));
        assert_eq!(places, [8, 4, 4, 12, 14, 13, 2]);
    }

    #[test]
    fn keys_are_spread_evenly() {
        let groups = vec!["a=a:8".parse().unwrap()];
        let layout = Layout::new(groups, 1).unwrap();
        let mut counts = [0; 8];
        for key in 0..8_000 {
            counts[place(&layout, &format!("a/{key}")) as usize - 1] += 1;
        }
        for count in counts {
            assert!((850..1_150).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn a_layout_says_what_it_is() {
        assert_eq!(
            shop().to_string(),
            "trade=order,payment,return:8, stock=stock:4, rest:2: 14 partitions, and partition 0 \
             for system streams"
        );
    }

    #[test]
    fn what_is_no_group_is_refused_in_words() {
        for text in ["", "a", "a=b", "a:1", "a=b:x", "a=b:-1", "a=b:99999999999"] {
            let error = text.parse::<Group>().unwrap_err();
            assert!(error.to_string().contains("is not a group"), "{error}");
        }
        for text in [
            "=b:1", "a=:1", "a=b,:1", "a=$b:1", "$a=b:1", "a=b/c:1", "a= b:1",
        ] {
            let error = text.parse::<Group>().unwrap_err();
            assert!(matches!(error, LayoutError::Name { .. }), "{text}: {error}");
        }
        for name in ["rest", "system"] {
            let error = format!("{name}=a:1").parse::<Group>().unwrap_err();
            assert!(error.to_string().contains("cannot be called"), "{error}");
        }
    }

    #[test]
    fn what_is_no_layout_is_refused_in_words() {
        let refused = |groups: &[&str], rest| {
            let groups = groups.iter().map(|group| group.parse().unwrap());
            Layout::new(groups.collect(), rest).unwrap_err().to_string()
        };
        assert!(refused(&[], 0).contains("no partitions"));
        assert!(refused(&[], 1_024).contains("at most 1024"));
        assert!(refused(&["a=a:1023"], 1).contains("1025 partitions"));
        assert!(refused(&["a=a:4294967295", "b=b:4294967295"], 1).contains("at most"));
        assert!(refused(&["a=a:1", "a=b:1"], 1).contains("are called"));
        assert!(refused(&["a=x:1", "b=y,x:1"], 1).contains("\"a\" and again in \"b\""));
        assert!(refused(&["a=x,x:1"], 1).contains("again in \"a\""));
        assert!("a=x:0".parse::<Group>().is_err());
    }
}
