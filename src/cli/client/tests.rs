use super::*;
use crate::api::error::{Code, Refusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// A socket of a master, and a client of it.
pub fn listener() -> (tempfile::TempDir, UnixListener, Client) {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::at(&ClusterName::default(), directory.path().join("api.sock"));
    let listener = UnixListener::bind(&client.path).unwrap();
    (directory, listener, client)
}

/// A master that gives one of these answers to each connection, then none; what it was asked.
pub async fn answer(listener: &UnixListener, answers: &[(u16, serde_json::Value)]) -> Vec<String> {
    let mut asked = Vec::new();
    for (status, body) in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let length = stream.read(&mut head).await.unwrap();
        asked.push(String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned());
        let body = body.to_string();
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await.unwrap();
    }
    asked
}

/// As the master refuses.
pub fn refusal(code: Code) -> (u16, serde_json::Value) {
    let problem = Refusal::new(code, format!("it is {code:?}")).problem();
    (problem.status, serde_json::to_value(problem).unwrap())
}

#[tokio::test]
async fn what_passes_is_asked_again_and_what_does_harm_twice_only_where_nothing_was_done() {
    let (_directory, listener, client) = listener();
    let limit = Duration::from_secs(10);
    let seven = (200, serde_json::json!(7));
    let passing = [refusal(Code::Busy), refusal(Code::Unavailable), seven.clone()];
    let (told, asked) = tokio::join!(client.insist::<u32>(Method::GET, "/v1/x", limit), answer(&listener, &passing));
    assert_eq!((told.unwrap(), asked.len()), (7, 3));
    let once = async |answers: Vec<_>| {
        tokio::join!(client.persist::<u32>(Method::POST, || "/v1/add".into(), limit, false), answer(&listener, &answers)).0
    };
    assert_eq!(once(vec![refusal(Code::Busy), seven]).await.unwrap(), 7, "nothing was done");
    assert_eq!(once(vec![refusal(Code::Unavailable)]).await.unwrap_err().code(), Some("unavailable"), "it may be done");
    assert_eq!(once(vec![refusal(Code::Conflict)]).await.unwrap_err().code(), Some("conflict"));
}

#[tokio::test]
async fn a_command_has_one_end_however_often_it_asks() {
    let (_directory, _listener, client) = listener();
    let begun = Instant::now();
    let client = client.within(Some(Duration::from_millis(300)));
    assert!(client.patience(Duration::from_secs(9)) <= Duration::from_millis(270), "the answer must come in time");
    // Nobody accepts.
    for _ in 0..3 {
        let late = client.call::<u32>(Method::GET, "/v1/x", Duration::from_secs(60)).await.unwrap_err();
        assert!(matches!(late, Error::Late(limit, _) if limit == Duration::from_millis(300)), "{late:?}");
    }
    assert!(client.left().unwrap().is_zero() && begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_master_that_dies_under_a_request_is_asked_again() {
    let (_directory, listener, client) = listener();
    let master = async {
        for _ in 0..3 {
            let (mut dying, _) = listener.accept().await.unwrap();
            assert!(dying.read(&mut [0; 4096]).await.unwrap() > 0);
        }
        let (mut alive, _) = listener.accept().await.unwrap();
        assert!(alive.read(&mut [0; 4096]).await.unwrap() > 0);
        alive.write_all(b"HTTP/1.1 200 OK\r\nproject-cluster-version: 99.0.0\r\ncontent-length: 1\r\n\r\n7").await.unwrap();
    };
    let limit = Duration::from_secs(10);
    let ask = async {
        // What counts twice is asked for once, and who asked is told how to see whether it is done.
        let broken = client.call::<u32>(Method::POST, "/v1/apps/api/add", limit).await.unwrap_err().to_string();
        (broken, client.insist::<u32>(Method::POST, "/v1/apps/api/rolls", limit).await)
    };
    let ((broken, answer), ()) = tokio::join!(ask, master);
    assert_eq!(answer.unwrap(), 7);
    assert!(broken.ends_with("may be done or not. `project-cluster ls`"), "{broken}");
    assert!(client.clone().version_note().unwrap().contains("version 99.0.0"), "it was heard with the answer");
    drop(listener);
    assert!(matches!(client.insist::<u32>(Method::GET, "/", limit).await, Err(Error::Unreachable(_))), "at once");
}

#[test]
fn another_version_is_told_with_what_to_do() {
    let note = |version: &str| {
        let client = Client::new(&"shop".parse().unwrap());
        client.hear(Some(version.as_bytes()));
        client.version_note()
    };
    assert_eq!(note(env!("CARGO_PKG_VERSION")), None);
    assert_eq!(Client::new(&ClusterName::default()).version_note(), None, "one that says nothing");
    assert!(note("99.0.0").unwrap().ends_with("install that version of this command, too"));
    for older in ["1.99.99", "0.1.0-rc.1", "none"] {
        assert!(note(older).unwrap().contains("`sudo systemctl restart shop`"), "{older}");
    }
    assert!(!note(&"\u{1b}[2J".repeat(100)).unwrap().contains('\u{1b}'));
}
