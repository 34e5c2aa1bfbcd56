//! How many connections each address has: one client is not to take all places.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places by address.
#[derive(Debug)]
pub(crate) struct Addresses {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place of an address; dropped when its connection ends.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    addresses: Arc<Addresses>,
    client: IpAddr,
}

impl Addresses {
    /// Of each address at most so many.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place, if the address has one left.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressPlace> {
        let client = client(address);
        let mut all = self.lock();
        let taken = all.entry(client).or_default();
        if *taken >= self.most {
            return None;
        }
        *taken += 1;
        drop(all);
        Some(AddressPlace { addresses: Arc::clone(self), client })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.addresses.lock().entry(self.client) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// Who an address is taken for: of IPv6, whoever has one has 2^64 of them.
pub(crate) fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_places_and_gets_them_back() {
        let addresses = Addresses::new(2);
        let places = [addresses.take(address("10.0.0.1")), addresses.take(address("::ffff:10.0.0.1"))];
        assert!(places.iter().all(Option::is_some) && addresses.take(address("10.0.0.1")).is_none());
        assert!(addresses.take(address("10.0.0.2")).is_some());
        drop(places);
        assert!(addresses.lock().is_empty(), "nothing is kept of who has gone");
        assert!(addresses.take(address("10.0.0.1")).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let addresses = Addresses::new(1);
        let _place = addresses.take(address("2001:db8:0:1::1")).expect("room");
        assert!(addresses.take(address("2001:db8:0:1:ffff::2")).is_none());
        assert!(addresses.take(address("2001:db8:0:2::1")).is_some());
    }
}
