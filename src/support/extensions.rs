//! Values that tasks look up by type: the application's state.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One shared value for each type. Adding a value to a clone does not change the original.
#[derive(Clone, Default)]
pub(crate) struct Extensions {
    values: Arc<HashMap<TypeId, Value>>,
}

/// A value and the name of its type.
type Value = (&'static str, Arc<dyn Any + Send + Sync>);

impl Extensions {
    /// Adds a value. It replaces one of the same type.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.values).insert(TypeId::of::<T>(), (type_name::<T>(), Arc::new(value)));
    }

    /// The value of this type.
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.get(&TypeId::of::<T>()).and_then(|(_, value)| value.downcast_ref())
    }

    /// A share of the value of this type.
    pub(crate) fn get_shared<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.values.get(&TypeId::of::<T>()).and_then(|(_, value)| value.clone().downcast().ok())
    }

    /// Whether there is a value of the type with this ID.
    pub(crate) fn contains(&self, id: TypeId) -> bool {
        self.values.contains_key(&id)
    }

    /// Merges two sets of values. For a type in both, the value of `other` wins.
    pub(crate) fn overridden_by(&self, other: &Self) -> Self {
        if other.values.is_empty() {
            return self.clone();
        }
        let mut values = (*self.values).clone();
        values.extend(other.values.iter().map(|(id, value)| (*id, value.clone())));
        Self { values: Arc::new(values) }
    }

    /// The names of the types, sorted.
    pub(crate) fn type_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.values.values().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.type_names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_type_and_replaced_by_one_of_the_same() {
        let mut first = Extensions::default();
        first.insert(1_u8);
        first.insert("one");
        let mut second = Extensions::default();
        second.insert(2_u8);
        let both = first.overridden_by(&second);
        assert_eq!((both.get::<u8>(), both.get::<&str>(), both.get::<u16>()), (Some(&2), Some(&"one"), None));
        assert_eq!(first.get::<u8>(), Some(&1));
        assert_eq!(both.type_names(), ["&str", "u8"]);
    }
}
