//! A broker that gets as far as the credentials, and refuses them; or not even that.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The credentials are refused, in words.
    Credentials,
    /// SCRAM is answered with a challenge, whose answer is refused.
    Proof,
    /// The mechanism is not known.
    Mechanism,
    /// Bytes that mean nothing.
    Garbage,
    /// At once.
    Reset,
}

/// Listens on loopback until the process ends.
pub(crate) struct Broker {
    pub(crate) refusal: Refusal,
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Broker {
    pub(crate) fn start(refusal: Refusal) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<u8>>>::default();
        std::thread::spawn({
            let received = Arc::clone(&received);
            move || {
                for socket in listener.incoming().flatten() {
                    let received = Arc::clone(&received);
                    std::thread::spawn(move || drop(serve(socket, refusal, &received)));
                }
            }
        });
        Self { refusal, address, received }
    }

    pub(crate) fn brokers(&self) -> String {
        self.address.to_string()
    }

    /// All requests, one behind the other.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

fn serve(mut socket: TcpStream, refusal: Refusal, received: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut challenged = false;
    loop {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        match refusal {
            Refusal::Reset => return socket.shutdown(Shutdown::Both),
            Refusal::Garbage => return socket.write_all(b"\0\0\0\x20HTTP/1.1 400 Bad Request\r\n\r\n...."),
            _ => {}
        }
        let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        socket.read_exact(&mut request)?;
        received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&request);
        let word = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let mut answer = request[4..8].to_vec();
        match word(0) {
            API_VERSIONS => api_versions(&mut answer, word(2)),
            SASL_HANDSHAKE => {
                let mechanisms: &[&str] = match refusal {
                    Refusal::Mechanism => &["GSSAPI"],
                    _ => &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
                };
                answer.extend_from_slice(
                    &i16::from(refusal == Refusal::Mechanism).wrapping_mul(33).to_be_bytes(),
                );
                answer.extend_from_slice(&u32::try_from(mechanisms.len()).unwrap().to_be_bytes());
                for mechanism in mechanisms {
                    text(&mut answer, mechanism);
                }
            }
            SASL_AUTHENTICATE if refusal == Refusal::Proof && !challenged => {
                challenged = true;
                let sent = String::from_utf8_lossy(&request);
                let nonce: String =
                    sent.split_once("r=").unwrap().1.chars().take_while(char::is_ascii_graphic).collect();
                let challenge = format!("r={nonce}more,s=c2FsdA==,i=4096");
                answer.extend_from_slice(&0_i16.to_be_bytes());
                answer.extend_from_slice(&(-1_i16).to_be_bytes());
                answer.extend_from_slice(&u32::try_from(challenge.len()).unwrap().to_be_bytes());
                answer.extend_from_slice(challenge.as_bytes());
                answer.extend_from_slice(&0_i64.to_be_bytes());
            }
            SASL_AUTHENTICATE => {
                answer.extend_from_slice(&58_i16.to_be_bytes());
                text(&mut answer, "Authentication failed: not you");
                answer.extend_from_slice(&0_u32.to_be_bytes());
                answer.extend_from_slice(&0_i64.to_be_bytes());
            }
            _ => return socket.shutdown(Shutdown::Both),
        }
        socket.write_all(&u32::try_from(answer.len()).unwrap().to_be_bytes())?;
        socket.write_all(&answer)?;
    }
}

/// Which requests are known, in which versions.
fn api_versions(answer: &mut Vec<u8>, version: i16) {
    let known: [(i16, i16); 4] = [(3, 1), (SASL_HANDSHAKE, 1), (API_VERSIONS, 3), (SASL_AUTHENTICATE, 1)];
    let flexible = version >= 3;
    answer.extend_from_slice(&0_i16.to_be_bytes());
    if flexible {
        answer.push(u8::try_from(known.len() + 1).unwrap());
    } else {
        answer.extend_from_slice(&u32::try_from(known.len()).unwrap().to_be_bytes());
    }
    for (key, last) in known {
        for number in [key, 0, last] {
            answer.extend_from_slice(&number.to_be_bytes());
        }
        answer.extend_from_slice(if flexible { &[0] } else { &[] });
    }
    if version >= 1 {
        answer.extend_from_slice(&0_u32.to_be_bytes());
    }
    answer.extend_from_slice(if flexible { &[0] } else { &[] });
}

fn text(answer: &mut Vec<u8>, text: &str) {
    answer.extend_from_slice(&i16::try_from(text.len()).unwrap().to_be_bytes());
    answer.extend_from_slice(text.as_bytes());
}
