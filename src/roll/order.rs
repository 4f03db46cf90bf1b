//! What a roll is asked to do. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Scope;
use super::stage::World;
use crate::config::settings::{Amount, Reload};
use crate::names::{Generation, Slot};

/// What somebody asks for. Whatever it is, the app has a worker in each wanted slot afterwards and none elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// Every worker is to be replaced by one of a new generation.
    pub deploy: bool,
    /// The new generation is this older one again: it has its pin, and not one of what is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Generation>,
    /// The workers of these slots are to be replaced, by ones of the same generation.
    pub restart: BTreeSet<Slot>,
    /// What is to be otherwise than configured in the trial of a new generation, this once.
    #[serde(default, skip_serializing_if = "Canaries::is_as_configured")]
    pub canaries: Canaries,
}

/// Canaries for once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Canaries {
    /// How many.
    pub canary: Option<Amount>,
    /// How long each must have been ready.
    pub bake: Option<Duration>,
}

impl Canaries {
    fn is_as_configured(&self) -> bool {
        *self == Self::default()
    }

    /// An app's keys with this over them.
    #[must_use]
    pub fn over(self, mut reload: Reload) -> Reload {
        reload.canary = self.canary.unwrap_or(reload.canary);
        reload.bake = self.bake.unwrap_or(reload.bake);
        reload
    }
}

impl Order {
    /// A new generation.
    pub fn deploy() -> Self {
        Self { deploy: true, ..Self::default() }
    }

    /// Fresh workers in these slots.
    pub fn restart(slots: BTreeSet<Slot>) -> Self {
        Self { restart: slots, ..Self::default() }
    }

    /// The same with other canaries than configured.
    #[must_use]
    pub fn tried(self, canaries: Canaries) -> Self {
        Self { canaries, ..self }
    }

    /// A new generation that is this older one again.
    pub fn rollback(to: Generation) -> Self {
        Self { deploy: true, to: Some(to), ..Self::default() }
    }

    /// Whether no roll can bring both about.
    pub fn excludes(&self, other: &Self) -> bool {
        self.deploy && other.deploy && self.to != other.to
    }

    /// Both at once, where one does not exclude the other.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.deploy |= other.deploy;
        self.to = self.to.or(other.to);
        self.restart.extend(other.restart);
        // Who asked for canaries gets them.
        let Canaries { canary, bake } = other.canaries;
        self.canaries = Canaries { canary: canary.or(self.canaries.canary), bake: bake.or(self.canaries.bake) };
        self
    }

    /// What of the app it is about, where these slots are wanted and this runs.
    pub fn scope(&self, wanted: &BTreeSet<Slot>, world: &World) -> Scope {
        if self.deploy {
            return Scope::App;
        }
        let mut slots = Scope::missing_and_extra(wanted, world);
        slots.extend(self.restart.intersection(wanted));
        Scope::Slots(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roll::stage::Sight;
    use crate::systemd::ActiveState;

    #[test]
    fn orders_add_up_and_a_deploy_covers_them_all() {
        let slots = |numbers: &[u16]| numbers.iter().map(|number| Slot::new(*number).unwrap()).collect::<BTreeSet<_>>();
        let active = Sight { state: ActiveState::Active, ..Sight::NOTHING };
        let world: World = ["1.4.1", "2.4.1", "3.4.1"].map(|name| (name.parse().unwrap(), active)).into();
        let both = Order::restart(slots(&[1])).and(Order::restart(slots(&[3, 8])));
        // 3 is not wanted any more, 4 has no worker yet, 8 is no slot at all.
        assert_eq!(both.scope(&slots(&[1, 2, 4]), &world), Scope::Slots(slots(&[1, 3, 4])));
        assert_eq!(Order::default().scope(&slots(&[1, 2, 3]), &world), Scope::Slots(slots(&[])));
        assert_eq!(both.clone().and(Order::rollback(Generation(3))).to, Some(Generation(3)));
        let (one, other) = (Order::rollback(Generation(3)), Order::rollback(Generation(2)));
        assert!(one.excludes(&other) && one.excludes(&Order::deploy()) && !one.excludes(&one) && !one.excludes(&both));
        assert_eq!(both.and(Order::deploy()).scope(&slots(&[1, 2, 4]), &world), Scope::App);
    }
}
