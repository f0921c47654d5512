// Sends Measurement Protocol hits to collect: a page view at once, and other hits when you call collect().
//
//   <script src="collect.js" data-collect="https://collect.example/collect" data-property="UA-XXXXX-1"></script>
//   <script>collect('event', { ec: 'cart', ea: 'add', pa: 'add', pr1id: 'SKU-1' })</script>
//
// A hit stays in localStorage until collect has it: after 429, 503 or without a network it is sent again, with growing pauses, and from
// the next page if this one is left. It may be sent twice, by two tabs or pages, but then with the same `z`, by which collect
// gives both the same event_id.
//
// Of visitors who say no (GPC, DNT, or data-consent="denied", which a page may change), nothing is on the device, also not what was
// there before: client id and queue are those of this page.
(() => {
  const data = document.currentScript.dataset
  const page = {}
  const sending = {}
  let pause = 0
  let timer

  const denies = () => navigator.globalPrivacyControl || navigator.doNotTrack == 1 || data.consent == 'denied'
  const device = () => {
    try {
      return localStorage
    } catch {
      return {}
    }
  }
  const kept = () => ({ ...device(), ...page })
  const hits = () => Object.keys(kept()).filter((name) => /^collect_hit/.test(name)).sort()

  // Each under a name of its own, so that no tab overwrites what another one has added. At most a hundred hits are on the device.
  const keep = (name, text) => {
    page[name] = text
    try {
      if (!denies() && hits().length < 100) device()[name] = text
    } catch {}
    return text
  }

  const forget = (name) => delete page[name] && delete device()[name]

  // Returns whether the next one may be sent.
  const send = async (name) => {
    const text = kept()[name]
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
        const { status, headers } = await fetch(data.collect, { method: 'POST', body, keepalive: true, credentials: 'include' })
        failed = status == 429 || status > 499
        seconds = headers.get('Retry-After')
      } catch {
        failed = true
      }
    } else if (!navigator.sendBeacon?.(data.collect, body)) new Image().src = data.collect + '?' + body
    delete sending[name]
    if (failed) {
      // Up to five minutes, or what collect asks for, up to a day.
      pause = Math.max(Math.min(2 * pause || 1, 300), Math.min(seconds, 86400) || 0)
      timer ||= setTimeout(flush, pause * (1e3 + Math.random() * 250))
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
    // What is there from before the visitor said no.
    if (denies()) Object.keys(device()).forEach((name) => /^collect_/.test(name) && forget(name))
    // Different for each hit, equal for copies of a hit.
    const z = Date.now() + '.' + ('' + Math.random()).slice(2)
    const name = 'collect_hit_' + z
    const hit = {
      v: 1,
      tid: data.property,
      cid: kept().collect_cid || keep('collect_cid', z),
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
    keep(name, '' + new URLSearchParams(hit))
    if (!timer) send(name)
  }

  addEventListener('online', flush)
  collect('pageview')
  flush()
})()
