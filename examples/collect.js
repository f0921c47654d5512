// Sends Measurement Protocol hits to collect: a page view at once, and other hits when you call collect().
//
//   <script src="collect.js" data-collect="https://collect.example/collect" data-property="UA-XXXXX-1"></script>
//   <script>collect('event', { ec: 'cart', ea: 'add', pa: 'add', pr1id: 'SKU-1' })</script>
//
// A hit stays in localStorage until collect has it: after 429, 503 or without a network it is sent again, with growing pauses, and from
// the next page if this one is left. It may be sent twice, by two tabs or pages, but then with the same `z`, by which collect
// gives both the same event_id.
//
// Of visitors who say no (GPC, DNT, or data-consent="denied", which a page may change), nothing is on the device: client id and queue are
// those of this page. What was there before goes with the next hit.
(() => {
  const data = document.currentScript.dataset
  const page = {}
  const sending = {}
  let device
  let granted
  let pause = 0
  let timer
  try {
    device = localStorage
  } catch {}
  device ||= {}

  const id = () => Date.now() + '.' + ('' + Math.random()).slice(2)
  let client = id()
  const hits = () => Object.keys({ ...device, ...page }).filter((name) => /^collect_hit_\d/.test(name)).sort()
  const forget = (name) => delete page[name] && delete device[name]

  // Returns whether the next one may be sent.
  const send = async (name) => {
    const text = page[name] || device[name]
    if (!text || sending[name]) return true
    sending[name] = 1
    // How long ago it happened, at most the four hours that the protocol allows.
    const ms = Date.now() - name.slice(12, 25)
    const body = new URLSearchParams(text + '&qt=' + Math.min(Math.max(ms, 0), 144e5))
    let failed
    let seconds
    // sendBeacon does not tell whether collect has it.
    if ('keepalive' in Request.prototype) {
      try {
        // Browsers refuse to keep more than 64 KiB alive.
        const { status, headers } = await fetch(data.collect, { method: 'POST', body, keepalive: text.length < 6e4, credentials: 'include' })
        failed = status == 429 || status > 499
        seconds = headers.get('Retry-After')
      } catch {
        failed = true
      }
    } else if (!navigator.sendBeacon?.(data.collect, body)) new Image().src = data.collect + '?' + body
    delete sending[name]
    if (failed) {
      // Up to five minutes, or what collect asks for, up to a day; and up to a quarter more, so that not all browsers come back at once.
      timer ||= setTimeout(flush, (pause = Math.max(Math.min(2 * pause || 1, 300), Math.min(seconds, 86400) || 0)) * (1e3 + Math.random() * 250))
    } else {
      pause = 0
      forget(name)
    }
    return !failed
  }

  const flush = async () => {
    clearTimeout(timer)
    timer = 0
    for (const name of hits()) if (!(await send(name))) break
  }

  window.collect = (type, parameters) => {
    if (navigator.globalPrivacyControl || navigator.doNotTrack == 1 || data.consent == 'denied') {
      // What is there from before the visitor said no.
      Object.keys(device).forEach((name) => /^collect_(hit_\d|cid$)/.test(name) && forget(name))
      if (granted) client = id()
      granted = 0
    } else {
      granted = 1
      try {
        client = device.collect_cid ||= client
      } catch {}
    }
    // Different for each hit, equal for copies of a hit.
    const z = id()
    const name = 'collect_hit_' + z
    const hit = {
      v: 1,
      tid: data.property,
      cid: client,
      t: type,
      dl: location.href,
      dr: document.referrer,
      dt: document.title,
      ul: navigator.language,
      sr: screen.width + 'x' + screen.height,
      z,
      ...parameters,
    }
    if (data.consent == 'denied') hit.gcs = 'G100'
    page[name] = '' + new URLSearchParams(hit)
    // Each under a name of its own, so that no tab overwrites what another one has added.
    try {
      if (granted && hits().length < 101) device[name] = page[name]
    } catch {}
    if (!timer) send(name)
  }

  addEventListener('online', flush)
  collect('pageview')
  flush()
})()
