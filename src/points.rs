//! Numbered places at which a test lets the master die, so that it meets each of them exactly. A release build has none.
//!
//! In a debug build the master looks, at each of them, for the file `die-at` in its state directory below `/run`: at
//! the passage of that number from then on it writes the place's name into `died-at` and ends as by `kill -9`. The file is
//! gone by then, so that the next master lives. Only the master itself and root can write there.
//!
//! It must not know what happens at the places.

#[cfg(debug_assertions)]
pub(crate) use armed::{arm, pass};

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn arm(_: std::path::PathBuf) {}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn pass(_: std::fmt::Arguments<'_>) {}

#[cfg(debug_assertions)]
mod armed {
    use std::fmt::Arguments;
    use std::fs;
    use std::path::PathBuf;
    use std::sync::OnceLock;

    static STATE: OnceLock<PathBuf> = OnceLock::new();

    /// From now on this process looks for `die-at` in that directory.
    pub(crate) fn arm(state: PathBuf) {
        // A process has one master.
        let _ = STATE.set(state);
    }

    /// One of the places; in most processes nothing happens there.
    pub(crate) fn pass(place: Arguments<'_>) {
        #[cfg(test)]
        super::hook::call(place);
        let Some(state) = STATE.get() else { return };
        let path = state.join("die-at");
        let Some(left) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u32>().ok()) else { return };
        // First away with it, since it is root's. A test that does not find what it expects fails.
        let _ = fs::remove_file(&path);
        if left > 1 {
            let _ = fs::write(&path, (left - 1).to_string());
            return;
        }
        let _ = fs::write(state.join("died-at"), place.to_string());
        std::process::abort()
    }
}

/// The places within one thread of a unit test.
#[cfg(test)]
pub(crate) mod hook {
    use std::cell::RefCell;
    use std::fmt::Arguments;

    type Hook = Box<dyn FnMut(String)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// What is called at each place from now on. It may unwind.
    pub(crate) fn set(hook: impl FnMut(String) + 'static) {
        HOOK.with_borrow_mut(|slot| *slot = Some(Box::new(hook)));
    }

    /// Nothing is called any more.
    pub(crate) fn clear() {
        HOOK.with_borrow_mut(|slot| *slot = None);
    }

    pub(super) fn call(place: Arguments<'_>) {
        // Out of its place while it runs, so that it may unwind and be replaced.
        if let Some(mut hook) = HOOK.with_borrow_mut(Option::take) {
            hook(place.to_string());
            HOOK.with_borrow_mut(|slot| {
                slot.get_or_insert(hook);
            });
        }
    }
}
