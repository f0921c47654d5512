// Sends Measurement Protocol hits to collect: a page view at once, and whatever you call it for.
//
//   <script src="collect.js" data-collect="https://collect.example/collect" data-property="UA-XXXXX-1"></script>
//   <script>collect('event', { ec: 'cart', ea: 'add', pa: 'add', pr1id: 'SKU-1' })</script>
//
// navigator.sendBeacon first, because it outlives the page. Where it is missing or takes no more, an image.
(function () {
  const { collect: url, property: tid } = document.currentScript.dataset
  const random = () => Math.floor(Math.random() * 2 ** 31)

  // A visitor whose browser keeps nothing is a new client on every page.
  let cid = random() + '.' + Date.now()
  try {
    cid = localStorage.collect_cid || (localStorage.collect_cid = cid)
  } catch (blocked) {}

  window.collect = function (type, parameters) {
    const hit = new URLSearchParams(Object.assign({
      v: 1,
      tid,
      cid,
      t: type,
      dl: location.href,
      dr: document.referrer,
      dt: document.title,
      ul: navigator.language,
      sr: screen.width + 'x' + screen.height,
      // Tells hits apart, and copies of one hit not.
      z: Date.now() + '.' + random(),
    }, parameters))
    if (!navigator.sendBeacon || !navigator.sendBeacon(url, hit)) new Image().src = url + '?' + hit
  }
  window.collect('pageview')
})()
