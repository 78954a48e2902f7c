package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// scanAll hands on the rows that text, which ends with IN, finds for keys. It is
// one statement, whatever their number.
func (tx *Tx) scanAll(ctx context.Context, row func(*sql.Rows) error, text string, keys []any, before ...any) error {
	if len(keys) == 0 {
		return nil
	}
	in, args := among(keys, before...)
	err := tx.scan(ctx, func(rows *sql.Rows) (bool, error) { return true, row(rows) }, text+in, args...)
	if errors.Is(err, errNoRow) {
		return nil
	}
	return err
}

// among is what follows IN for some keys, and all that the statement is given. The
// texts of several numbers are the same, so that few are prepared: the last key is
// named again.
func among(keys []any, before ...any) (text string, args []any) {
	places := 1
	for places < len(keys) {
		places *= 4
	}
	args = slices.Clone(before)
	for i := range places {
		args = append(args, keys[min(i, len(keys)-1)])
	}
	return placeholders(len(before)+1, places), args
}

// table is what rows are inserted into, many at once.
type table struct {
	columns int
	arrays  string         // the statement that takes an array for each column
	values  map[int]string // by the number of rows, the statement that takes so many
}

// newTable takes columns as SQL lists them, and their types as PostgreSQL names
// them.
func newTable(name, columns string, kinds ...string) table {
	into := "INSERT INTO " + name + " (" + columns + ") "
	arrays := make([]string, len(kinds))
	for i, kind := range kinds {
		arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, kind)
	}
	t := table{columns: len(kinds), arrays: into + "SELECT * FROM unnest(" + strings.Join(arrays, ", ") + ")", values: map[int]string{}}
	// Without numbers: SQLite takes $1 for a name, and looks through all names for
	// that of each value that is bound.
	line := "(" + strings.Repeat(", ?", len(kinds))[2:] + ")"
	for rows := 1; rows <= mostRows; rows *= 4 {
		t.values[rows] = into + "VALUES " + strings.Repeat(", "+line, rows)[2:]
	}
	return t
}

// mostRows that SQLite takes at once: four times as many gain next to nothing.
const mostRows = 64

// insertAll inserts rows, which have a value for each column; when one of them
// is there already the error says what.
//
// PostgreSQL takes an array for each column and so any number of rows by one text.
// SQLite has no arrays: it takes several rows by a text for as many.
func (tx *Tx) insertAll(ctx context.Context, what thing, into table, rows [][]any) error {
	if tx.session.far {
		if len(rows) == 0 {
			return nil
		}
		return tx.insert(ctx, what, into.arrays, byColumn(rows)...)
	}
	for len(rows) > 0 {
		n := 1
		for 4*n <= min(len(rows), mostRows) {
			n *= 4
		}
		args := make([]any, 0, n*into.columns)
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		if err := tx.insert(ctx, what, into.values[n], args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func byColumn(rows [][]any) []any {
	columns := make([]any, len(rows[0]))
	for i := range columns {
		values := make([]any, len(rows))
		for j, row := range rows {
			values[j] = row[i]
		}
		columns[i] = values
	}
	return columns
}

// placeholders are n of them in parentheses, from $first on.
func placeholders(first, n int) string {
	text := []byte("(")
	for i := range n {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = strconv.AppendInt(append(text, '$'), int64(first+i), 10)
	}
	return string(append(text, ')'))
}

func anys[T any](values []T) []any {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = v
	}
	return list
}

// of is the one record of a list, or the list.
func of[T any](noun, nouns string, list []T, id func(T) any) thing {
	if len(list) == 1 {
		return thing{noun, id(list[0])}
	}
	return thing{fmt.Sprintf("one of %d %s", len(list), nouns), nil}
}
