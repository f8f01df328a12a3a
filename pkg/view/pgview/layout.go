package pgview

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/parleyhq/parley/pkg/view"
	"github.com/parleyhq/parley/pkg/view/internal/jsonform"
)

// layout is what a generation's collections are in the database.
type layout struct {
	schema      string
	collections []*collection
	byName      map[string]*collection
	// shape is what reading the documents relies on.
	shape string
}

// collection is a collection and its table.
type collection struct {
	view.Collection
	number int
	// codec is nil for opaque documents.
	codec *jsonform.Codec
	table table
	// primary is the clustered index's columns; none for a collection by key.
	primary []column
	// ordered are the ordered indexes with a table of their own, texts the text
	// indexes; by the index's number, nil for all others.
	ordered []*orderedIndex
	texts   []*textIndex
	sql     collectionSQL
}

// table is a table's names.
type table struct {
	name      string // as it is
	qualified string // quoted, with its schema
	primary   string // quoted, of its primary key
}

// column of a tuple.
type column struct {
	name string
	typ  view.ColumnType
}

// orderedIndex is the table with an ordered index's entries.
type orderedIndex struct {
	table   table
	columns []column
	// at are the columns with the place of a clustered collection's document.
	at         []column
	insert, rm string
}

// textIndex is the table with a text index's texts.
type textIndex struct {
	table table
	// unique and gin are the quoted names of the indexes over numbers and grams.
	unique, gin            string
	put, rm, numbers, next string
}

type collectionSQL struct {
	put, rm, get, getMany, load, prior string
}

// newLayout lays out collections in a Postgres schema. It fails with
// view.ErrInvalid where a message cannot be kept as JSON.
func newLayout(schema string, declared []view.Collection) (*layout, error) {
	l := &layout{schema: schema, byName: map[string]*collection{}}
	taken := names{}
	var shapes []string
	for i := range declared {
		c := &collection{Collection: declared[i], number: i, ordered: make([]*orderedIndex, len(declared[i].Indexes)), texts: make([]*textIndex, len(declared[i].Indexes))}
		if c.New != nil {
			var err error
			if c.codec, err = jsonform.New(c.New); err != nil {
				return nil, fmt.Errorf("collection %s: %w", c.Name, err)
			}
			shapes = append(shapes, c.codec.Shape())
		}
		c.table = l.newTable(taken, c.Name)
		l.collections = append(l.collections, c)
		l.byName[c.Name] = c
	}
	for _, c := range l.collections {
		l.indexes(taken, c)
	}
	// Tables come first: what belongs to them gives way.
	for _, c := range l.collections {
		c.nameParts(taken)
		c.prepare()
	}
	l.shape = mergeShapes(shapes...)
	return l, nil
}

func (l *layout) newTable(taken names, name string) table {
	name = taken.take(name)
	return table{name: name, qualified: quote(l.schema) + "." + quote(name)}
}

func (l *layout) indexes(taken names, c *collection) {
	for i := range c.Indexes {
		x := &c.Indexes[i]
		switch {
		case c.Clustered && i == 0:
			c.primary = columns("value", x.Columns)
		case x.Kind == view.Ordered:
			o := &orderedIndex{table: l.newTable(taken, c.Name+"__"+x.Name), columns: columns("value", x.Columns)}
			if c.Clustered {
				o.at = columns("at", c.Indexes[0].Columns)
			}
			c.ordered[i] = o
		default:
			c.texts[i] = &textIndex{table: l.newTable(taken, c.Name+"__"+x.Name)}
		}
	}
}

// nameParts names what belongs to tables.
func (c *collection) nameParts(taken names) {
	c.table.primary = quote(taken.take(c.table.name + "_pkey"))
	for i := range c.Indexes {
		if o := c.ordered[i]; o != nil {
			o.table.primary = quote(taken.take(o.table.name + "_pkey"))
		}
		if x := c.texts[i]; x != nil {
			x.table.primary = quote(taken.take(x.table.name + "_pkey"))
			x.unique, x.gin = quote(taken.take(x.table.name+"_number")), quote(taken.take(x.table.name+"_grams"))
		}
	}
}

func columns(name string, types []view.ColumnType) []column {
	all := make([]column, len(types))
	for i, t := range types {
		all[i] = column{name: name + "_" + strconv.Itoa(i+1), typ: t}
	}
	return all
}

// sqlType of a column.
func (c column) sqlType() string {
	switch c.typ {
	case view.ColumnString:
		return "text"
	case view.ColumnInt64:
		return "bigint"
	case view.ColumnTime:
		return "timestamptz"
	default:
		return "bytea"
	}
}

func (c column) declaration() string {
	if c.typ == view.ColumnString {
		return c.name + ` text COLLATE "C" NOT NULL`
	}
	return c.name + " " + c.sqlType() + " NOT NULL"
}

// list joins what f makes of each column.
func list(columns []column, f func(column) string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = f(c)
	}
	return strings.Join(parts, ", ")
}

func plain(c column) string { return c.name }

// with puts something before a list's elements.
func with(prefix string) func(column) string {
	return func(c column) string { return prefix + c.name }
}

var (
	tenantColumn = column{name: "tenant", typ: view.ColumnString}
	idColumn     = column{name: "id", typ: view.ColumnString}
)

// key of a collection's table: tenant, clustered columns, id.
func (c *collection) key() []column { return keyColumns(c.primary) }

func keyColumns(middle []column) []column {
	return append(append([]column{tenantColumn}, middle...), idColumn)
}

func (c *collection) documentType() string {
	if c.codec == nil {
		return "bytea"
	}
	return "jsonb"
}

// hasTerms says that documents have their index entries beside them.
func (c *collection) hasTerms() bool { return len(c.Indexes) > 0 && !c.Clustered }

// create is the statements that make the tables.
func (l *layout) create(lz4 bool) []string {
	var all []string
	primary := func(t table, columns []column) string {
		return "CONSTRAINT " + t.primary + " PRIMARY KEY (" + list(columns, plain) + ")"
	}
	for _, c := range l.collections {
		document := "document " + c.documentType()
		if lz4 {
			document += " COMPRESSION lz4"
		}
		parts := list(c.key(), column.declaration) + ", " + document + " NOT NULL, meta bytea"
		if c.hasTerms() {
			parts += ", terms bytea NOT NULL"
		}
		all = append(all, "CREATE TABLE "+c.table.qualified+" ("+parts+", "+primary(c.table, c.key())+")")
		for i := range c.Indexes {
			if o := c.ordered[i]; o != nil {
				parts := list(append(keyColumns(o.columns), o.at...), column.declaration)
				all = append(all, "CREATE TABLE "+o.table.qualified+" ("+parts+", "+primary(o.table, keyColumns(o.columns))+")")
			}
			if x := c.texts[i]; x != nil {
				key := []column{tenantColumn, idColumn}
				all = append(all, "CREATE TABLE "+x.table.qualified+" ("+list(key, column.declaration)+
					`, number int NOT NULL, text text COLLATE "C" NOT NULL, grams int[] NOT NULL, `+primary(x.table, key)+
					", CONSTRAINT "+x.unique+" UNIQUE (tenant, number))",
					"CREATE INDEX "+x.gin+" ON "+x.table.qualified+" USING gin (grams)")
			}
		}
	}
	return all
}

// unnest is rows of arrays given as parameters, from the first on: `unnest($1::text[], …) AS u(tenant, …)`.
func unnest(columns []column, more ...string) string {
	types, names := make([]string, 0, len(columns)+len(more)), make([]string, 0, len(columns)+len(more))
	for _, c := range columns {
		types, names = append(types, c.sqlType()), append(names, c.name)
	}
	for i := 0; i+1 < len(more); i += 2 {
		types, names = append(types, more[i+1]), append(names, more[i])
	}
	for i := range types {
		types[i] = "$" + strconv.Itoa(i+1) + "::" + types[i] + "[]"
	}
	return "unnest(" + strings.Join(types, ", ") + ") AS u(" + strings.Join(names, ", ") + ")"
}

// equal compares columns of two tables.
func equal(a, b string, columns []column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = a + c.name + " = " + b + c.name
	}
	return strings.Join(parts, " AND ")
}

// prepare makes the statements.
func (c *collection) prepare() {
	key := c.key()
	// Elements of a parameter are jsonb only once they are apart: not every
	// query mode could send them as such.
	sent, document := "text", "u.document::jsonb"
	if c.codec == nil {
		sent, document = "bytea", "u.document"
	}
	more := []string{"document", sent, "meta", "bytea"}
	names, values, sets := "document, meta", document+", u.meta", "document = excluded.document, meta = excluded.meta"
	if c.hasTerms() {
		more = append(more, "terms", "bytea")
		names, values, sets = names+", terms", values+", u.terms", sets+", terms = excluded.terms"
	}
	t := c.table.qualified
	c.sql.put = "INSERT INTO " + t + " (" + list(key, plain) + ", " + names + ") SELECT " + list(key, with("u.")) + ", " + values +
		" FROM " + unnest(key, more...) + " ON CONFLICT (" + list(key, plain) + ") DO UPDATE SET " + sets
	c.sql.rm = "DELETE FROM " + t + " d USING " + unnest(key) + " WHERE " + equal("d.", "u.", key)
	if !c.Clustered {
		from := " FROM " + t + " WHERE tenant = $1::text AND id = $2::text"
		c.sql.get = "SELECT document" + from
		c.sql.load = "SELECT document, meta" + from
		if c.hasTerms() {
			c.sql.load = "SELECT document, meta, terms" + from
		}
		many := " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(tenant, id, i) JOIN " + t + " d ON d.tenant = u.tenant AND d.id = u.id"
		c.sql.getMany = "SELECT u.i, d.document" + many
		c.sql.prior = "SELECT u.i, d.terms" + many
	}
	for i := range c.Indexes {
		if o := c.ordered[i]; o != nil {
			o.prepare()
		}
		if x := c.texts[i]; x != nil {
			x.prepare()
		}
	}
}

func (o *orderedIndex) prepare() {
	key := keyColumns(o.columns)
	all := append(append([]column(nil), key...), o.at...)
	o.insert = "INSERT INTO " + o.table.qualified + " (" + list(all, plain) + ") SELECT " + list(all, with("u.")) + " FROM " + unnest(all) + " ON CONFLICT DO NOTHING"
	o.rm = "DELETE FROM " + o.table.qualified + " d USING " + unnest(key) + " WHERE " + equal("d.", "u.", key)
}

func (x *textIndex) prepare() {
	key := []column{tenantColumn, idColumn}
	t := x.table.qualified
	x.put = "INSERT INTO " + t + " (tenant, id, number, text, grams) SELECT u.tenant, u.id, u.number, u.text, u.grams::int[] FROM " +
		unnest(key, "number", "int", "text", "text", "grams", "text") +
		" ON CONFLICT (tenant, id) DO UPDATE SET number = excluded.number, text = excluded.text, grams = excluded.grams"
	x.rm = "DELETE FROM " + t + " d USING " + unnest(key) + " WHERE " + equal("d.", "u.", key)
	x.numbers = "SELECT u.i, d.number FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(tenant, id, i) JOIN " + t + " d ON d.tenant = u.tenant AND d.id = u.id"
	x.next = "SELECT u.tenant, (SELECT coalesce(max(number) + 1, 0) FROM " + t + " d WHERE d.tenant = u.tenant) FROM unnest($1::text[]) AS u(tenant)"
}

// mergeShapes are the lines of several shapes, sorted, each once.
func mergeShapes(shapes ...string) string {
	all := map[string]bool{}
	for _, shape := range shapes {
		for line := range strings.Lines(shape + "\n") {
			if line = strings.TrimSuffix(line, "\n"); line != "" {
				all[line] = true
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(all)), "\n")
}

// missing is the first line of a shape that another has not; empty for none.
func missing(from, shape string) string {
	there := map[string]bool{}
	for line := range strings.SplitSeq(from, "\n") {
		there[line] = true
	}
	for line := range strings.SplitSeq(shape, "\n") {
		if line != "" && !there[line] {
			return line
		}
	}
	return ""
}
