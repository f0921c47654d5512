// Sends Measurement Protocol hits to collect: a page view at once, and other hits when you call collect().
//
//   <script src="collect.js" data-collect="https://collect.example/collect" data-property="UA-XXXXX-1"></script>
//   <script>collect('event', { ec: 'cart', ea: 'add', pa: 'add', pr1id: 'SKU-1' })</script>
//
// It uses navigator.sendBeacon, which works even while the page is being closed, or an image if sendBeacon is missing or
// its queue is full.
(function () {
  const { collect: url, property: tid } = document.currentScript.dataset
  const random = () => Math.floor(Math.random() * 2 ** 31)

  // Without localStorage, every page view has a new client id.
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
      // Different for each hit, equal for copies of a hit.
      z: Date.now() + '.' + random(),
    }, parameters))
    if (!navigator.sendBeacon || !navigator.sendBeacon(url, hit)) new Image().src = url + '?' + hit
  }
  window.collect('pageview')
})()
