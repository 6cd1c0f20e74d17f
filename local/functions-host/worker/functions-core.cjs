// What `require('@azure/functions-core')` answers inside the worker: the api object that core-api.ts put there. A real
// file, so that every module loader resolves it the ordinary way; a global symbol, so that copies of this module agree.
'use strict';

const api = globalThis[Symbol.for('gatepost.functions-core')];
if (api === undefined) throw new Error('The core of the Functions worker is not installed in this process.');
module.exports = api;
