//! Every state once; whether all ways end; and how a state was come to.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::moves::{self, Move};
use crate::state::{Setting, State};

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub states: usize,
    pub moves: usize,
    pub ends: BTreeMap<&'static str, usize>,
    /// Calm moves on the longest calm way.
    pub longest: u32,
    pub took: Duration,
}

/// The bytes of a state, so that the whole of it goes through a hash at once.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// A state's name: 128 bits of it. That two of ten million share one has a chance of 1 in 10^24.
type Print = (u64, u64);

fn print(state: &State, bytes: &mut Bytes) -> Print {
    bytes.0.clear();
    state.hash(bytes);
    let of = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(&bytes.0);
        hasher.finish()
    };
    (of(1), of(2))
}

/// It is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }
}

struct Search<'a> {
    setting: &'a Setting,
    numbers: HashMap<Print, u32, BuildHasherDefault<AsItIs>>,
    /// Of each state, the one before it and the move between.
    from: Vec<Option<(u32, Move)>>,
    /// Where each state's calm moves lead to: those of the n-th end at the n-th mark.
    calm: Vec<u32>,
    marks: Vec<usize>,
    open: VecDeque<State>,
    bytes: Bytes,
}

/// Explores; an error is the law that broke and the way there.
pub fn explore(setting: &Setting) -> Result<Found, String> {
    let begun = Instant::now();
    let mut search = Search {
        setting,
        numbers: HashMap::default(),
        from: Vec::new(),
        calm: Vec::new(),
        marks: Vec::new(),
        open: VecDeque::new(),
        bytes: Bytes::default(),
    };
    let mut found = Found::default();
    search.number(State::first(setting)?, None);
    while let Some(state) = search.open.pop_front() {
        let number = u32::try_from(search.marks.len()).unwrap();
        if let Some(end) = state.over {
            *found.ends.entry(end).or_default() += 1;
        }
        for next in moves::all(setting, &state) {
            found.moves += 1;
            let to = match next.state {
                Ok(to) if to == state => continue,
                Ok(to) => search.number(to, Some((number, next.by))),
                Err(broken) => return Err(format!("{broken}\n{}", search.way(number, Some(next.by)))),
            };
            if next.calm {
                search.calm.push(to);
            }
        }
        search.marks.push(search.calm.len());
    }
    found.longest = search.all_ways_end()?;
    found.states = search.from.len();
    found.took = begun.elapsed();
    Ok(found)
}

impl Search<'_> {
    /// Its number; a new one is open.
    fn number(&mut self, state: State, from: Option<(u32, Move)>) -> u32 {
        let next = u32::try_from(self.from.len()).unwrap();
        match self.numbers.entry(print(&state, &mut self.bytes)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                free.insert(next);
                self.from.push(from);
                self.open.push_back(state);
                next
            }
        }
    }

    fn calm_of(&self, number: usize) -> &[u32] {
        let begin = number.checked_sub(1).map_or(0, |before| self.marks[before]);
        &self.calm[begin..self.marks[number]]
    }

    /// "Always ends": a state that has no calm move and is no end was found while exploring; so what is left to show is that
    /// no calm way is without end, which is that there is no ring of calm moves. Then, whatever has happened before, from the
    /// moment on where the world leaves it alone every way ends, in whichever order things happen.
    fn all_ways_end(&self) -> Result<u32, String> {
        let count = self.marks.len();
        let mut before = vec![0_u32; count];
        for number in 0..count {
            self.calm_of(number).iter().for_each(|to| before[*to as usize] += 1);
        }
        let mut depth = vec![0_u32; count];
        let mut open: Vec<usize> = (0..count).filter(|number| before[*number] == 0).collect();
        let mut left = count;
        while let Some(number) = open.pop() {
            left -= 1;
            for to in self.calm_of(number).iter().map(|to| *to as usize) {
                depth[to] = depth[to].max(depth[number] + 1);
                before[to] -= 1;
                if before[to] == 0 {
                    open.push(to);
                }
            }
        }
        if left == 0 {
            return Ok(depth.into_iter().max().unwrap_or(0));
        }
        // From any state of or behind a ring, back along those of it that are left, until one comes twice.
        let within = |number: usize| before[number] > 0;
        let mut at = (0..count).find(|number| within(*number)).unwrap();
        let mut seen = std::collections::HashSet::new();
        while seen.insert(at) {
            at = (0..count).find(|number| within(*number) && self.calm_of(*number).contains(&u32::try_from(at).unwrap())).unwrap();
        }
        Err(format!("invariant 8: it goes in a ring from here\n{}", self.way(u32::try_from(at).unwrap(), None)))
    }

    /// How a state was come to, and a move that follows.
    fn way(&self, number: u32, last: Option<Move>) -> String {
        let mut way: Vec<Move> = last.into_iter().collect();
        let mut at = number;
        while let Some((before, by)) = self.from[at as usize] {
            way.push(by);
            at = before;
        }
        way.reverse();
        let mut text = String::new();
        let Ok(mut state) = State::first(self.setting) else { return text };
        for by in way {
            text.push_str(&format!("  {by:?}\n"));
            let next = moves::all(self.setting, &state).into_iter().find(|next| next.by == by);
            match next.map(|next| next.state) {
                Some(Ok(next)) => state = next,
                _ => break,
            }
            let known: Vec<String> =
                state.roll.workers().iter().map(|(worker, known)| format!("{worker} {}", known.stage.name())).collect();
            text.push_str(&format!("      {} {}\n", state.roll.phase().name(), known.join(", ")));
        }
        text
    }
}
