//! What is explored.

use crate::moves::Blow;
use crate::search::explore;
use crate::state::Setting;

#[test]
fn a_try() {
    let get = |name: &str, or: u16| std::env::var(name).ok().map_or(or, |text| text.parse().unwrap());
    let setting = Setting::of(get("SLOTS", 2).into(), get("SURGE", 1), get("UNAV", 0), u8::try_from(get("BLOWS", 0)).unwrap());
    let _ = Blow::ALL;
    match explore(&setting) {
        Ok(found) => eprintln!("{found:?}"),
        Err(broken) => panic!("{broken}"),
    }
}
