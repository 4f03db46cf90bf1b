//! What is measured inside the sandbox, so that entering it costs nothing: this program, started there with a verb.
//!
//! | | prints |
//! |---|---|
//! | `race ROUNDS COMMAND... -- COMMAND...` | for each command the median of its run times, µs, from its start to its end; they take turns; one behind `!` fails, and its complaint is thrown away |
//! | `ask SOCKET PATH CLIENTS SECONDS RATE` | requests a second, and the latencies that 50 and 99 of 100 stay under, µs; with a rate so many are asked for in a second by all together, and late is what is late by that plan; 0 is as fast as it goes |
//! | `connect ROUNDS MS PORT...` | for each port the median of the new connections a second that were answered; they take turns of so many ms |
//! | `starts ROUNDS WAY -- WAY...`, a way being `START... ++ STOP... ++ PORT...` | for each way the median time from its start command until that has ended and all ports answer, µs |
//! | `crash ROUNDS UNIT PORT UNIT PORT` | for each unit the median time from the SIGKILL of its main process until its port answers, µs |
//!
//! Blocking threads and the standard library alone: a client that is slower than what it measures would measure itself.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// More than any answer here takes; an error beyond it rather than a hang.
const LIMIT: Duration = Duration::from_secs(10);

/// Carries out one verb.
pub fn run(args: &[String]) -> Result<(), String> {
    let number =
        |at: usize| args.get(at).and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("{args:?}: word {at} is no number"));
    match args.first().map(String::as_str) {
        Some("race") => race(number(1)?, &args[2..]),
        Some("ask") => ask(&args[1], &args[2], number(3)?, Duration::from_secs(number(4)?), number(5)?),
        Some("connect") => connect(number(1)?, Duration::from_millis(number(2)?), &args[3..]),
        Some("starts") => starts(number(1)?, &args[2..]),
        Some("crash") => crash(number(1)?, &args[2..]),
        _ => Err(format!("{args:?} is nothing to do inside")),
    }
}

fn race(rounds: u64, words: &[String]) -> Result<(), String> {
    let commands: Vec<&[String]> = words.split(|word| word == "--").collect();
    let mut times = vec![Vec::new(); commands.len()];
    // The first round fills caches and does not count.
    for round in 0..=rounds {
        for (times, command) in times.iter_mut().zip(&commands) {
            let fails = command[0] == "!";
            let mut process = Command::new(&command[usize::from(fails)]);
            process.args(&command[usize::from(fails) + 1..]).stdout(Stdio::null());
            if fails {
                process.stderr(Stdio::null());
            }
            let started = Instant::now();
            let status = process.status();
            let took = started.elapsed();
            if status.as_ref().is_ok_and(std::process::ExitStatus::success) == fails {
                return Err(format!("{command:?}: {status:?}"));
            }
            if round > 0 {
                times.push(took);
            }
        }
    }
    for times in times {
        println!("{}", median(times).as_micros());
    }
    Ok(())
}

fn ask(socket: &str, path: &str, clients: u64, time: Duration, rate: u64) -> Result<(), String> {
    let begin = Instant::now();
    let end = begin + time;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let client = |client: u64| -> Result<Vec<Duration>, String> {
        let mut stream = UnixStream::connect(socket).map_err(|why| format!("{socket}: {why}"))?;
        stream.set_read_timeout(Some(LIMIT)).map_err(|why| why.to_string())?;
        let (mut times, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        for turn in 0.. {
            let mut started = Instant::now();
            if rate > 0 {
                let planned = begin + Duration::from_secs(turn * clients + client) / u32::try_from(rate).unwrap_or(u32::MAX);
                std::thread::sleep(planned.saturating_duration_since(started));
                started = planned;
            }
            if started >= end {
                break;
            }
            stream.write_all(request.as_bytes()).map_err(|why| why.to_string())?;
            answer(&mut stream, &mut buffer)?;
            times.push(started.elapsed());
        }
        Ok(times)
    };
    let (mut times, client) = (Vec::new(), &client);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || client(number))).collect();
        for thread in threads {
            times.extend(thread.join().map_err(|_| "a client panicked")??);
        }
        Ok::<_, String>(())
    })?;
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0, Duration::as_micros);
    println!("{}\n{}\n{}", (times.len() as f64 / time.as_secs_f64()).round(), at(50), at(99));
    Ok(())
}

/// Reads one answer whole: a head with `content-length`, and as many bytes behind it.
fn answer(stream: &mut impl Read, buffer: &mut [u8]) -> Result<(), String> {
    let mut have = 0;
    loop {
        match stream.read(&mut buffer[have..]) {
            Ok(0) => return Err("it closed the connection".into()),
            Ok(count) => have += count,
            Err(why) => return Err(why.to_string()),
        }
        let Some(head) = buffer[..have].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
        if !text.starts_with("http/1.1 200") {
            return Err(text);
        }
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if have >= head + 4 + length.ok_or("no content-length")? {
            return Ok(());
        }
    }
}

/// One client that opens a connection, asks, and closes it, again and again.
fn connect(rounds: u64, time: Duration, ports: &[String]) -> Result<(), String> {
    let mut rates = vec![Vec::new(); ports.len()];
    for _ in 0..rounds {
        for (rates, port) in rates.iter_mut().zip(ports) {
            let (end, mut count) = (Instant::now() + time, 0_u32);
            while Instant::now() < end {
                once(port).map_err(|why| format!("port {port}: {why}"))?;
                count += 1;
            }
            rates.push(f64::from(count) / time.as_secs_f64());
        }
    }
    for mut rates in rates {
        rates.sort_unstable_by(f64::total_cmp);
        println!("{:.0}", rates[rates.len() / 2]);
    }
    Ok(())
}

/// One request over a connection of its own.
fn once(port: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    match stream.read_to_end(&mut Vec::new())? {
        0 => Err(io::Error::other("it closed the connection")),
        _ => Ok(()),
    }
}

/// Until it answers: a port may be closed, and who is killed takes a connection with it.
fn until_answered(port: &str) -> Result<(), String> {
    let end = Instant::now() + 6 * LIMIT;
    while let Err(why) = once(port) {
        if Instant::now() > end {
            return Err(format!("port {port} does not answer: {why}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn succeed(command: &[String]) -> Result<String, String> {
    let output =
        Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).output().map_err(|why| format!("{command:?}: {why}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn starts(rounds: u64, words: &[String]) -> Result<(), String> {
    let ways: Vec<Vec<&[String]>> = words.split(|word| word == "--").map(|way| way.split(|word| word == "++").collect()).collect();
    let mut times = vec![Vec::new(); ways.len()];
    // The first round makes a pin and fills caches, and does not count.
    for round in 0..=rounds {
        for (times, way) in times.iter_mut().zip(&ways) {
            let [start, stop, ports] = way[..] else { return Err(format!("{way:?} is no way")) };
            let started = Instant::now();
            succeed(start)?;
            ports.iter().try_for_each(|port| until_answered(port))?;
            if round > 0 {
                times.push(started.elapsed());
            }
            succeed(stop)?;
        }
    }
    times.into_iter().for_each(|times| println!("{}", median(times).as_micros()));
    Ok(())
}

fn crash(rounds: u64, words: &[String]) -> Result<(), String> {
    let mut times = vec![Vec::new(); words.len() / 2];
    let systemctl = |words: &[&str]| succeed(&[&["systemctl"], words].concat().into_iter().map(String::from).collect::<Vec<_>>());
    for round in 0..=rounds {
        for (times, pair) in times.iter_mut().zip(words.chunks(2)) {
            let [unit, port] = pair else { return Err(format!("{pair:?} is no unit and its port")) };
            // By hand: neither counts it among its crashes.
            systemctl(&["restart", unit])?;
            until_answered(port)?;
            let pid = systemctl(&["show", "-P", "MainPID", unit])?;
            // systemd may let its own timer ring up to 250 ms late, at fixed points of each such span: all of them have their turn.
            std::thread::sleep(Duration::from_millis(round * 97 % 250));
            let started = Instant::now();
            succeed(&["kill", "-9", &pid].map(String::from))?;
            until_answered(port)?;
            if round > 0 {
                times.push(started.elapsed());
            }
        }
    }
    times.into_iter().for_each(|times| println!("{}", median(times).as_micros()));
    Ok(())
}

/// Of one at least.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2
}
