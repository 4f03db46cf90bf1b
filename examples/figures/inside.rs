//! What is measured inside the sandbox, so that entering it costs nothing: this program, started there with a verb.
//!
//! | | prints |
//! |---|---|
//! | `race ROUNDS COMMAND... -- COMMAND...` | for each command the median of its run times, µs, from its start to its end; they take turns |
//! | `ask SOCKET PATH CLIENTS SECONDS` | requests a second, and the latencies that 50 and 99 of 100 stay under, µs |
//! | `connect ROUNDS SECONDS PORT PORT` | for each port the new connections a second that were answered, by turns; the median |
//!
//! Blocking threads and the standard library alone: a client that is slower than what it measures would measure itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// More than any answer here takes; an error beyond it rather than a hang.
const LIMIT: Duration = Duration::from_secs(10);

/// Carries out one verb.
pub fn run(args: &[String]) -> Result<(), String> {
    let number = |at: usize| args.get(at).and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("{args:?}: word {at} is no number"));
    match args.first().map(String::as_str) {
        Some("race") => race(number(1)?, &args[2..]),
        Some("ask") => ask(&args[1], &args[2], number(3)?, Duration::from_secs(number(4)?)),
        Some("connect") => connect(number(1)?, Duration::from_millis(number(2)?), &[number(3)?, number(4)?]),
        _ => Err(format!("{args:?} is nothing to do inside")),
    }
}

fn race(rounds: u64, words: &[String]) -> Result<(), String> {
    let commands: Vec<&[String]> = words.split(|word| word == "--").collect();
    let mut times = vec![Vec::new(); commands.len()];
    // The first round fills caches and does not count.
    for round in 0..=rounds {
        for (times, command) in times.iter_mut().zip(&commands) {
            let started = Instant::now();
            let status = Command::new(&command[0]).args(&command[1..]).stdout(Stdio::null()).status();
            let took = started.elapsed();
            if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
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

fn ask(socket: &str, path: &str, clients: u64, time: Duration) -> Result<(), String> {
    let end = Instant::now() + time;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let client = || -> Result<Vec<Duration>, String> {
        let mut stream = UnixStream::connect(socket).map_err(|why| format!("{socket}: {why}"))?;
        stream.set_read_timeout(Some(LIMIT)).map_err(|why| why.to_string())?;
        let (mut times, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        while Instant::now() < end {
            let started = Instant::now();
            stream.write_all(request.as_bytes()).map_err(|why| why.to_string())?;
            answer(&mut stream, &mut buffer)?;
            times.push(started.elapsed());
        }
        Ok(times)
    };
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
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
fn connect(rounds: u64, time: Duration, ports: &[u64]) -> Result<(), String> {
    let mut rates = vec![Vec::new(); ports.len()];
    for _ in 0..rounds {
        for (rates, port) in rates.iter_mut().zip(ports) {
            let (end, mut count) = (Instant::now() + time, 0_u32);
            while Instant::now() < end {
                let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).map_err(|why| format!("port {port}: {why}"))?;
                stream.set_read_timeout(Some(LIMIT)).map_err(|why| why.to_string())?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").map_err(|why| why.to_string())?;
                stream.read_to_end(&mut Vec::new()).map_err(|why| why.to_string())?;
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

/// Of one at least.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2
}
