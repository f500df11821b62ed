// Shows /api/openapi.json with Swagger UI, in the colours that the system asks for.
'use strict';

(() => {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const paint = () => document.documentElement.classList.toggle('dark-mode', dark.matches);
  dark.addEventListener('change', paint);
  paint();
  const main = document.querySelector('main');
  fetch('/api/openapi.json').then((answer) => {
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }).then((spec) => {
    window.SwaggerUIBundle({
      spec,
      domNode: document.getElementById('reference'),
      deepLinking: true,
      docExpansion: 'list',
      defaultModelsExpandDepth: 0,
      tryItOutEnabled: false,
      persistAuthorization: false,
      validatorUrl: null, // nothing is asked elsewhere
      presets: [window.SwaggerUIBundle.presets.apis],
      layout: 'BaseLayout',
    });
  }).catch(() => {
    const p = document.createElement('p');
    p.className = 'lead';
    p.textContent = main.dataset.missing;
    main.append(p);
  });
})();
