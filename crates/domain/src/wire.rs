//! How a serde enum is stored: the variant's name beside the data, not around it.
//!
//! `OrderPlaced { total: 5 }` becomes the name `OrderPlaced` and the JSON `{"total":5}`. A
//! variant without fields becomes `{}`, so that it may grow fields later. A plain struct is
//! taken as an enum with one variant of its own name.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, IgnoredAny, VariantAccess, Visitor,
};
use serde::ser::{
    Impossible, SerializeStruct, SerializeStructVariant, SerializeTupleStruct,
    SerializeTupleVariant,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Error;

/// Appends the JSON of what the variant holds to `out`; returns the variant's name.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<&'static str, Error> {
    value.serialize(Untag { out })
}

/// Makes the value of variant `name` from the JSON of what it holds. An event without data, as
/// CloudEvents has them, is one without fields.
pub fn decode<T: DeserializeOwned>(name: &str, data: &[u8]) -> Result<T, Error> {
    let data = if data.is_empty() { b"{}" } else { data };
    T::deserialize(Tagged { name, data })
}

/// The names of the variants of `T`, without having a value of it; empty for what is no
/// enum.
pub fn variant_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    let probed = T::deserialize(Probe { names: &mut names });
    debug_assert!(probed.is_err(), "the probe holds no value");
    names
}

struct Untag<'a> {
    out: &'a mut Vec<u8>,
}

type Json<'a> = serde_json::Serializer<&'a mut Vec<u8>>;

const NO_ENUM: &str = "only an enum in serde's default form, or a struct, has a name to be stored by; \
     remove `#[serde(tag, untagged, into)]`";

fn fault(message: impl std::fmt::Display) -> Error {
    serde::de::Error::custom(message)
}

macro_rules! refuse {
    ($($method:ident($ty:ty);)*) => {
        $(fn $method(self, _: $ty) -> Result<Self::Ok, Error> {
            Err(fault(NO_ENUM))
        })*
    };
}

impl<'a> Serializer for Untag<'a> {
    type Ok = &'static str;
    type Error = Error;
    type SerializeSeq = Impossible<&'static str, Error>;
    type SerializeTuple = Impossible<&'static str, Error>;
    type SerializeTupleStruct = Impossible<&'static str, Error>;
    type SerializeTupleVariant = Fields<'a>;
    type SerializeMap = Impossible<&'static str, Error>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
    }

    fn serialize_none(self) -> Result<Self::Ok, Error> {
        Err(fault(NO_ENUM))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, Error> {
        Err(fault(NO_ENUM))
    }

    fn serialize_unit(self) -> Result<Self::Ok, Error> {
        Err(fault(NO_ENUM))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<Self::Ok, Error> {
        self.out.extend_from_slice(b"{}");
        Ok(name)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Self::Ok, Error> {
        self.out.extend_from_slice(b"{}");
        Ok(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Error> {
        serde_json::to_writer(self.out, value)?;
        Ok(variant)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Err(fault(NO_ENUM))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(fault(NO_ENUM))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(fault(NO_ENUM))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Error> {
        Ok(Fields::begin(self.out, variant, b'[', b']'))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(fault(NO_ENUM))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'a>, Error> {
        Ok(Fields::begin(self.out, name, b'{', b'}'))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Error> {
        Ok(Fields::begin(self.out, variant, b'{', b'}'))
    }
}

/// Writes the fields of a variant, as an object or an array.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    name: &'static str,
    close: u8,
    first: bool,
}

impl<'a> Fields<'a> {
    fn begin(out: &'a mut Vec<u8>, name: &'static str, open: u8, close: u8) -> Self {
        out.push(open);
        Self {
            out,
            name,
            close,
            first: true,
        }
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.separate();
        value.serialize(&mut Json::new(&mut *self.out))
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.separate();
        key.serialize(&mut Json::new(&mut *self.out))?;
        self.out.push(b':');
        value.serialize(&mut Json::new(&mut *self.out))
    }

    fn finish(self) -> &'static str {
        self.out.push(self.close);
        self.name
    }
}

impl SerializeStruct for Fields<'_> {
    type Ok = &'static str;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<&'static str, Error> {
        Ok(self.finish())
    }
}

impl SerializeStructVariant for Fields<'_> {
    type Ok = &'static str;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<&'static str, Error> {
        Ok(self.finish())
    }
}

impl SerializeTupleVariant for Fields<'_> {
    type Ok = &'static str;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<&'static str, Error> {
        Ok(self.finish())
    }
}

impl SerializeTupleStruct for Fields<'_> {
    type Ok = &'static str;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<&'static str, Error> {
        Ok(self.finish())
    }
}

/// A name and the JSON of what that variant holds.
#[derive(Clone, Copy)]
struct Tagged<'a> {
    name: &'a str,
    data: &'a [u8],
}

impl<'de> Tagged<'de> {
    fn check_struct_name(&self, name: &'static str) -> Result<(), Error> {
        if self.name == name {
            Ok(())
        } else {
            Err(fault(format_args!(
                "unknown type `{}`, expected `{name}`",
                self.name
            )))
        }
    }

    /// Reads the data with `read`, and refuses what stands behind it.
    fn read<T>(
        &self,
        read: impl FnOnce(
            &mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>,
        ) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut json = serde_json::Deserializer::from_slice(self.data);
        let value = read(&mut json)?;
        json.end()?;
        Ok(value)
    }

    fn read_nothing(&self) -> Result<(), Error> {
        self.read(|json| IgnoredAny::deserialize(json)).map(|_| ())
    }
}

macro_rules! no_value {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(fault(NO_ENUM))
        })*
    };
}

impl<'de> Deserializer<'de> for Tagged<'de> {
    type Error = Error;

    no_value! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_option deserialize_unit
        deserialize_seq deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_struct_name(name)?;
        self.read_nothing()?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(fault(NO_ENUM))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Error> {
        Err(fault(NO_ENUM))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_struct_name(name)?;
        self.read(|json| json.deserialize_struct(name, fields, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self)
    }
}

impl<'de> EnumAccess<'de> for Tagged<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = StrDeserializer::<Error>::new(self.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.read_nothing()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.read(|json| seed.deserialize(json))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.read(|json| json.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.read(|json| json.deserialize_struct("", fields, visitor))
    }
}

/// Takes the names that a type asks for, and gives no value.
struct Probe<'a> {
    names: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(fault(NO_ENUM))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.names = variants;
        Err(fault("the probe holds no value"))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
