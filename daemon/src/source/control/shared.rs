//! A sorted map whose copies share what they have in common.
//!
//! ```text
//! pages   [ a … c ][ d … k ][ l … z ]     a copy has the same pages; a change copies the list of them, and one page
//! ```

use std::sync::Arc;

/// By text, in its order. Cheap to copy, and to change a copy of.
#[derive(Clone, Debug)]
pub(super) struct SharedMap<V> {
    pages: Arc<Vec<Arc<Page<V>>>>,
    len: usize,
}

/// Never empty.
type Page<V> = Vec<(Arc<str>, V)>;

/// A page of more than twice as many is split.
const PAGE: usize = 128;

impl<V: Clone> SharedMap<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.pages.iter().flat_map(|page| page.iter()).map(|(key, value)| (&**key, value))
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        let page = self.pages.get(self.page_of(key))?;
        let at = find(page, key).ok()?;
        page.get(at).map(|(_, value)| value)
    }

    /// What stood there before.
    pub(super) fn insert(&mut self, key: &str, value: V) -> Option<V> {
        let at = self.page_of(key);
        let pages = Arc::make_mut(&mut self.pages);
        let Some(page) = pages.get_mut(at).map(Arc::make_mut) else {
            pages.push(Arc::new(vec![(key.into(), value)]));
            self.len += 1;
            return None;
        };
        match find(page, key) {
            Ok(place) => page.get_mut(place).map(|(_, old)| std::mem::replace(old, value)),
            Err(place) => {
                page.insert(place, (key.into(), value));
                if page.len() > 2 * PAGE {
                    let upper = page.split_off(PAGE);
                    pages.insert(at + 1, Arc::new(upper));
                }
                self.len += 1;
                None
            }
        }
    }

    /// What stood there.
    pub(super) fn remove(&mut self, key: &str) -> Option<V> {
        let at = self.page_of(key);
        let place = find(self.pages.get(at)?, key).ok()?;
        let pages = Arc::make_mut(&mut self.pages);
        let page = Arc::make_mut(pages.get_mut(at)?);
        let (_, value) = page.remove(place);
        if page.is_empty() {
            pages.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// Which page has `key`, or would have it.
    fn page_of(&self, key: &str) -> usize {
        let after = self.pages.partition_point(|page| page.first().is_some_and(|(first, _)| **first <= *key));
        after.saturating_sub(1)
    }
}

impl<V: Clone> Default for SharedMap<V> {
    fn default() -> Self {
        Self { pages: Arc::default(), len: 0 }
    }
}

fn find<V>(page: &Page<V>, key: &str) -> Result<usize, usize> {
    page.binary_search_by(|(known, _)| (**known).cmp(key))
}

/// Of what comes in the order of its keys.
impl<V: Clone> FromIterator<(String, V)> for SharedMap<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(entries: I) -> Self {
        let mut entries = entries.into_iter().map(|(key, value)| (Arc::from(key), value));
        let mut pages = Vec::new();
        let mut len = 0;
        loop {
            let page: Page<V> = entries.by_ref().take(PAGE).collect();
            if page.is_empty() {
                return Self { pages: Arc::new(pages), len };
            }
            len += page.len();
            pages.push(Arc::new(page));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn it_is_a_sorted_map_and_copies_stay_as_they_were() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut model: BTreeMap<String, u32> = (0..1_000).map(|n| (format!("key-{}", n * 3), n)).collect();
        let mut map: SharedMap<u32> = model.clone().into_iter().collect();
        let mut copies = Vec::new();
        for round in 0..20_000 {
            // At first it grows, then it goes down to nothing, and grows again.
            let adds = if (8_000..16_000).contains(&round) { 0.2 } else { 0.6 };
            let key = format!("key-{}", random.u32(..4_000));
            if random.f64() < adds {
                assert_eq!(map.insert(&key, round), model.insert(key, round));
            } else {
                let key = model.range(key..).next().map(|(key, _)| key.clone()).unwrap_or_default();
                assert_eq!(map.remove(&key), model.remove(&key));
            }
            assert_eq!(map.len(), model.len());
            if round % 1_000 == 0 {
                copies.push((map.clone(), model.clone()));
            }
        }
        copies.push((map, model));
        for (map, model) in copies {
            assert!(map.iter().eq(model.iter().map(|(key, value)| (key.as_str(), value))));
            for n in 0..4_000 {
                let key = format!("key-{n}");
                assert_eq!(map.get(&key), model.get(&key));
            }
            assert!(map.pages.iter().all(|page| !page.is_empty() && page.len() <= 2 * PAGE));
        }
        let empty: SharedMap<u32> = BTreeMap::new().into_iter().collect();
        assert_eq!((empty.len(), empty.get("a"), empty.iter().count()), (0, None, 0));
    }
}
