//! Datasets of DMAP: asked for, downloaded, and put into the incoming bucket.
//!
//! Each module depends only on modules above it in this list.
//!
//! | module | what it does |
//! |---|---|
//! | `hosts` | knows the hosts that may be connected to, and shows URLs without their secrets |
//! | `config` | reads the settings |
//! | `secret` | reads the API keys |
//! | `http` | sends requests over TLS, and follows redirects to declared hosts |
//! | `registrar` | asks load-registrar |
//! | `app` | holds settings and clients for as long as the sandbox lives |
//! | `answer` | asks a feed and reads its answer; what is wrong with a result goes to the quarantine |
//! | `download` | reads a dataset as a stream that goes on where it broke |
//! | `store` | uploads a dataset while it is downloaded |
//! | `fetch` | takes one feed, and each of its datasets, into the bucket |
//! | `handler` | runs one invocation |

pub mod answer;
pub mod app;
pub mod config;
pub mod download;
pub mod fetch;
pub mod handler;
pub mod hosts;
pub mod http;
pub mod registrar;
pub mod secret;
pub mod store;

/// The function's name: its folder, package, binary and quarantine folder.
pub const FUNCTION: &str = "dmap-fetch";
