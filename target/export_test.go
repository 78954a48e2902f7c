package target

import "context"

// AskPostgres asks over the control path.
func AskPostgres(ctx context.Context, t Target, query string) error {
	s, err := t.postgresLogin(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	_, err = s.rows(query)
	return err
}

// AskMariaDB asks over the control path.
func AskMariaDB(ctx context.Context, t Target, query string) error {
	s, err := t.mysqlLogin(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	_, err = s.rows(query)
	return err
}
