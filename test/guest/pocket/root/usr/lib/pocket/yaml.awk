# Reads the block style of YAML that cloud-config documents are written in and
# prints one line per scalar: its path, a tab, its value.
#   users:                      users.0.name<TAB>vm
#     - name: "vm"
# In values a backslash is doubled and a newline is \n, as printf %b reads it.
# Not for: anchors, tags, flow collections other than empty ones, folded scalars.

function escape(s) {
  gsub(/\\/, "\\\\", s)
  gsub(/\n/, "\\n", s)
  return s
}

function emit(path, value) { printf "%s\t%s\n", path, escape(value) }

function hex(s,   i, n) {
  n = 0
  for (i = 1; i <= length(s); i++) n = n * 16 + index("0123456789abcdef", tolower(substr(s, i, 1))) - 1
  return n
}

function utf8(c) {
  if (c < 128) return sprintf("%c", c)
  if (c < 2048) return sprintf("%c%c", 192 + int(c / 64), 128 + c % 64)
  return sprintf("%c%c%c", 224 + int(c / 4096), 128 + int(c / 64) % 64, 128 + c % 64)
}

# The content of a double-quoted string, from after its opening quote.
function double_quoted(s,   out, i, c) {
  out = ""
  for (i = 1; i <= length(s); i++) {
    c = substr(s, i, 1)
    if (c == "\"") break
    if (c != "\\") { out = out c; continue }
    c = substr(s, ++i, 1)
    if (c == "n") out = out "\n"
    else if (c == "t") out = out "\t"
    else if (c == "r") out = out "\r"
    else if (c == "u") { out = out utf8(hex(substr(s, i + 1, 4))); i += 4 }
    else out = out c
  }
  return out
}

function single_quoted(s,   out, i, c) {
  out = ""
  for (i = 1; i <= length(s); i++) {
    c = substr(s, i, 1)
    if (c == "'") { if (substr(s, i + 1, 1) != "'") break; i++ }
    out = out c
  }
  return out
}

function scalar(s) {
  if (s ~ /^"/) return double_quoted(substr(s, 2))
  if (s ~ /^'/) return single_quoted(substr(s, 2))
  sub(/[ \t]+#.*$/, "", s)
  sub(/[ \t]+$/, "", s)
  return s
}

# Closes every collection that is indented more than this line.
function close_to(indent) { while (depth > 0 && indents[depth] > indent) depth-- }

# One line's content, which begins at the column "indent" of the document.
function content(text, indent,   key, rest, parent) {
  if (text ~ /^-( |$)/) {
    close_to(indent)
    if (depth == 0 || indents[depth] != indent || !is_list[depth]) {
      parent = depth > 0 ? pending[depth] : ""
      depth++
      indents[depth] = indent; is_list[depth] = 1; count[depth] = -1; prefix[depth] = parent
    }
    count[depth]++
    pending[depth] = prefix[depth] count[depth] "."
    rest = substr(text, 2)
    match(rest, /^ */)
    if (length(rest) > RLENGTH) content(substr(rest, RLENGTH + 1), indent + 1 + RLENGTH)
    return
  }
  if (match(text, /^("[^"]*"|'[^']*'|[A-Za-z0-9_.-]+) *:( |$)/)) {
    key = substr(text, 1, RLENGTH)
    rest = substr(text, RLENGTH + 1)
    sub(/ *: *$/, "", key)
    key = scalar(key)
    sub(/^ +/, "", rest)
    close_to(indent)
    # A list may stand at its key's own column; the next key ends it.
    if (depth > 0 && is_list[depth] && indents[depth] == indent) depth--
    if (depth == 0 || indents[depth] != indent || is_list[depth]) {
      parent = depth > 0 ? pending[depth] : ""
      depth++
      indents[depth] = indent; is_list[depth] = 0; prefix[depth] = parent
    }
    pending[depth] = prefix[depth] key "."
    value(prefix[depth] key, rest, indent)
    return
  }
  value(depth > 0 ? substr(pending[depth], 1, length(pending[depth]) - 1) : "", text, indent)
}

function value(path, text, indent) {
  if (text == "" || text ~ /^#/ || text ~ /^(\[ *\]|\{ *\})/) return
  if (text ~ /^\|[-+]?[ \t]*(#.*)?$/) {
    block_path = path; block_indent = indent; block_first = -1; block_text = ""
    block_strip = text ~ /^\|-/
    return
  }
  emit(path, scalar(text))
}

function end_block() {
  if (block_path == "") return
  sub(/\n+$/, "\n", block_text)
  if (block_strip) sub(/\n$/, "", block_text)
  emit(block_path, block_text)
  block_path = ""
}

{ sub(/\r$/, "") }

block_path != "" {
  match($0, /^ */)
  if ($0 ~ /^ *$/) { block_text = block_text "\n"; next }
  if (RLENGTH > block_indent) {
    if (block_first < 0) block_first = RLENGTH
    block_text = block_text substr($0, block_first + 1) "\n"
    next
  }
  end_block()
}

/^ *(#|$)/ || /^---/ || /^\.\.\./ { next }

{
  match($0, /^ */)
  content(substr($0, RLENGTH + 1), RLENGTH)
}

END { end_block() }
