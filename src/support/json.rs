//! Serializes values to JSON without losing numbers, and measures JSON.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};
use serde_json::Value;

/// Serializes the value. Unlike `serde_json`, it refuses NaN and infinite numbers, which would become null.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Value, serde_json::Error> {
    let json = serde_json::to_value(value)?;
    if contains_null(&json)
        && let Err(NotFinite(reason)) = value.serialize(FiniteNumbers)
    {
        return Err(ser::Error::custom(reason));
    }
    Ok(json)
}

/// About how many bytes the JSON text has. Escapes are not counted.
pub(crate) fn approximate_size(json: &Value) -> usize {
    match json {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 10,
        Value::String(text) => text.len() + 3,
        Value::Array(values) => values.iter().map(approximate_size).sum::<usize>() + 3,
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + 4 + approximate_size(value)).sum::<usize>() + 3
        }
    }
}

/// The value at this path of names and array indexes, as text. Empty if there is none, or if it is null.
#[cfg(feature = "testing")]
pub(crate) fn text_at(json: &Value, path: &[Option<String>]) -> String {
    let value = path.iter().flatten().try_fold(json, |value, name| match value {
        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
        _ => value.get(name),
    });
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn contains_null(json: &Value) -> bool {
    match json {
        Value::Null => true,
        Value::Array(values) => values.iter().any(contains_null),
        Value::Object(members) => members.values().any(contains_null),
        _ => false,
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotFinite(String);

impl ser::Error for NotFinite {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self(reason.to_string())
    }
}

fn check(number: f64) -> Result<(), NotFinite> {
    if number.is_finite() {
        return Ok(());
    }
    Err(NotFinite(format!("JSON has no number for {number}")))
}

/// A serializer that writes nothing and fails at a number that is not finite.
#[derive(Clone, Copy)]
struct FiniteNumbers;

/// Declares the methods of scalar values, which are all accepted.
macro_rules! accept {
    ($($method:ident($($type:ty),*);)+) => {
        $(
            fn $method(self, $(_: $type),*) -> Result<(), NotFinite> {
                Ok(())
            }
        )+
    };
}

/// Declares the methods of compound values, whose parts are checked.
macro_rules! check_parts {
    ($($method:ident($($type:ty),*) -> $compound:ident;)+) => {
        $(
            fn $method(self, $(_: $type),*) -> Result<Self::$compound, NotFinite> {
                Ok(self)
            }
        )+
    };
}

impl Serializer for FiniteNumbers {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    accept! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    check_parts! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }

    fn serialize_f32(self, number: f32) -> Result<(), NotFinite> {
        check(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), NotFinite> {
        check(number)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotFinite> {
        value.serialize(self)
    }
}

/// Implements the traits of compound values, each with the method for its parts.
macro_rules! compound {
    ($($trait:ident::$method:ident($($key:ty)?);)+) => {
        $(
            impl ser::$trait for FiniteNumbers {
                type Ok = ();
                type Error = NotFinite;

                fn $method<T: Serialize + ?Sized>(&mut self, $(_: $key,)? value: &T) -> Result<(), NotFinite> {
                    value.serialize(*self)
                }

                fn end(self) -> Result<(), NotFinite> {
                    Ok(())
                }
            }
        )+
    };
}

compound! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(&'static str);
    SerializeStructVariant::serialize_field(&'static str);
}

impl ser::SerializeMap for FiniteNumbers {
    type Ok = ();
    type Error = NotFinite;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotFinite> {
        value.serialize(*self)
    }

    fn end(self) -> Result<(), NotFinite> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Serialize, Default)]
    struct Args {
        optional: Option<f64>,
        single: f32,
        list: Vec<(u8, f64)>,
        map: BTreeMap<i32, Kind>,
    }

    #[derive(serde::Serialize)]
    enum Kind {
        Tuple(f64, f64),
        Struct { weight: f64 },
        Newtype(f64),
        Unit,
    }

    #[test]
    fn the_size_of_json_is_about_that_of_its_text() {
        for json in ["{}", "[[], [1.25, 7], {}]", r#"{"name":"a longer text","list":[true,false,null],"empty":""}"#] {
            let size = approximate_size(&serde_json::from_str(json).unwrap());
            assert!(size + 5 >= json.len() && size <= 3 * json.len(), "{size}: {json}");
        }
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_wherever_they_are() {
        let with = |kind| Args { map: BTreeMap::from([(1, Kind::Unit), (2, kind)]), ..Args::default() };
        assert!(to_json(&with(Kind::Tuple(1.0, 2.0))).is_ok_and(|json| json["optional"].is_null()));
        for wrong in [
            Args { optional: Some(f64::NAN), ..Args::default() },
            Args { single: f32::INFINITY, ..Args::default() },
            Args { list: vec![(0, 1.0), (1, f64::NEG_INFINITY)], ..Args::default() },
            with(Kind::Tuple(1.0, f64::NAN)),
            with(Kind::Struct { weight: f64::NAN }),
            with(Kind::Newtype(f64::NAN)),
        ] {
            assert!(to_json(&wrong).is_err_and(|error| error.to_string().starts_with("JSON has no number for ")));
        }
    }
}
