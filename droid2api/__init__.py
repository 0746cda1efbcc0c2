"""droid2api: one small gateway on localhost between LLM tools and LLM services that speak different API formats.

The map, lowest floor first. A module imports only what stands above it in this list; `application` alone knows
`observe`, and `application` and `observe` alone know `server`. Nothing imports what is below it.

    errors                      named by whose fault they are
    wire/sse                    server-sent events: bytes to events and back
    wire/fields                 JSON fields with exact errors
    wire/surrogates             halves of characters, put together
    wire/places                 bytes and characters before a place in a text
    hub/events                  what an answer is
    hub/turn                    the keeper of an answer's grammar
    hub/stops                   stop sequences for upstreams that have none
    hub/reasoning               levels, efforts and budgets
    hub/schema_walk             a walk through a JSON Schema
    hub/schema_dialects         what each dialect takes of JSON Schema
    hub/schema                  fits a schema to a dialect
    hub/profile_table           what services and models differ in: rows with their sources
    hub/profiles                the profile of one model at one service
    hub/request                 what a request is
    hub/media                   kinds of media
    hub/encoded                 what an encoder makes of a request
    hub/fitting                 fits a request to what its upstream takes
    hub/tools                   names and kinds of tools that every upstream takes
    hub/history                 the order of a conversation that every upstream takes
    hub/estimate                tokens, roughly
    formats/overflow            an overflow of the context, in whatever words
    formats/upstream_error      an upstream's error, in whatever shape
    formats/endings             how an answer ends, in whatever words
    formats/decoder             what the stream decoders share
    formats/listing             the lists of models that services give
    formats/routes              what a room says of its clients' paths
    formats/openai_shared       what OpenAI's two formats have in common
    formats/chat/               one room for each format
    formats/responses/
    formats/anthropic/
    formats/gemini/
    formats                     the protocol of a format, and FORMATS
    settings                    the settings, checked and frozen
    proxies                     which proxy stands before a URL
    config_keys                 the keys of config.json, as tables
    config                      reads config.json and the environment
    outbound                    the client sessions: proxies and trust
    credentials/credential      what a credential is
    credentials/tokens          tokens, and what a store of them is
    credentials/file_store      tokens in a file
    credentials/redis_store     tokens in Redis
    credentials/schedule        when a token is renewed
    credentials/kept_tokens     the tokens in use and the store that keeps them
    credentials/token_endpoint  one call of the token service
    credentials/refresher       one refresh at a time
    credentials/fixed           keys that are not renewed
    credentials/rotating        tokens that are
    credentials/chain           which credential an endpoint has
    gateway/exchange            one request and its answer, for whoever watches
    gateway/logs                the log
    gateway/prepare             makes the upstream's request out of a client's
    gateway/upstream            what is said to an upstream besides the body
    gateway/lanes               the lanes of an answer, without a socket
    gateway/pump                one upstream's answer to one client
    gateway/fallback            or by the model that stands by
    server/guard                which callers are let in
    server/reload               settings that change while the gateway runs
    server/connections          the clients' connections
    server/keys                 what the application and each request carry
    server/edge                 what happens to every request
    server/models               the list of models
    server/body                 a client's body, within limits
    server/app                  routes and handlers
    observe/                    what is optional; registers itself from outside
    demo                        the embedded upstream
    application                 the composition root
    app                         the name that gunicorn commands of 0.1 use
    __main__                    the command line
"""

__version__ = "0.2.0"
