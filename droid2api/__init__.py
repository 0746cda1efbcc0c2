"""droid2api: one small gateway on localhost between LLM tools and LLM services that speak different API formats.

The map, lowest floor first; a module imports from lower floors only:

    0  errors          named by whose fault they are
    1  events, turn    what an answer is, and the keeper of its grammar
       conversation    what a request is; history (its order), tools (names and kinds), reasoning (levels and budgets),
                       capabilities (of models), estimate (of tokens)
       fields, sse     JSON fields with exact errors; server-sent events
       stops           stop sequences for upstreams that have none
    2  formats/*/      chat, responses, anthropic: request, adapt and answer of one format, to and from the floor below
    3  formats         FORMATS: what each format is called and can do
    4  config          settings from config.json and the environment
    5  auth, upstream  where the credential comes from; the one client session
       token_store     where rotating tokens are kept, for one process or many: a file; redis_store: the same in Redis
       exchange        one request and its answer, for whoever watches: logs, and what is in observe
    6  lanes, relay    the two lanes of an answer, and the pumps through them
       guard, reload   which callers are let in; settings that change while the gateway runs
    7  app             routes and lifecycle
    8  __main__, demo  command line; the embedded upstream

    observe/*          what is optional, imported only when used: usage store, metrics, page, command line reports
"""

__version__ = "0.1.0"
