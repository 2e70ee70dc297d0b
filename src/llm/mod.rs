//! Model dialects: whose error envelope a route wears. Usage and cost come with the LLM-format work. It reads and writes bytes
//! it is given; it opens no sockets and knows no endpoint.
