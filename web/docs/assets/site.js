// Small comforts of the guides and the door page. Without it everything can still be read.
'use strict';

(() => {
  const { copy, copied } = document.body.dataset;
  for (const pre of document.querySelectorAll('pre')) {
    if (!navigator.clipboard || !copy) break; // not offered on plain http to another machine
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = copy;
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(pre.querySelector('code').textContent.trim());
      button.textContent = copied;
      setTimeout(() => { button.textContent = copy; }, 1500);
    });
    const box = document.createElement('div');
    box.className = 'copybox';
    pre.replaceWith(box);
    box.append(pre, button);
  }

  // The server cannot know how a proxy in front of it is called; the browser does.
  for (const span of document.querySelectorAll('[data-origin]')) span.textContent = location.origin;

  const state = document.querySelector('.state');
  if (state) {
    const look = async () => {
      let ok = false;
      try {
        const answer = await fetch('/readyz', { cache: 'no-store' });
        await answer.text(); // unread, it would hold its connection
        ok = answer.ok;
      } catch { /* not reachable: not ready */ }
      state.classList.toggle('good', ok);
      state.classList.toggle('bad', !ok);
      state.querySelector('span').textContent = ok ? state.dataset.ready : state.dataset.notReady;
    };
    look();
    setInterval(() => { if (!document.hidden) look(); }, 10000);
  }
})();
