// Plain JDBC, as tests/drivers/orm_checks.py asks for it. Arguments: host, parameters of the URL.

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.sql.*;
import java.util.*;
import java.util.regex.*;
import javax.sql.DataSource;
import org.postgresql.ds.PGPoolingDataSource;
import org.postgresql.util.*;

public class Customers {
    // Often enough for pgJDBC to prepare a statement on the server, and to read in binary what it can.
    static final int RUNS = 8;
    static Map<String, String> given;
    static DataSource pool;

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        given = strings(lines.readLine());
        pool = pool("jdbc:postgresql://%s:%s/%s?%s".formatted(arguments[0], given.get("port"), given.get("database"), arguments[1]), given.get("user"));
        try (Connection connection = pool.getConnection()) {
            migrate(connection);
        }
        try (Connection connection = pool.getConnection()) {
            answers.println(json(firstStage(connection)));
        }
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Map<String, String> stage = strings(line);
            try {
                answers.println(json(nextStage(stage)));
            } catch (SQLException error) {
                // The pool has dropped that connection.
                if (!error.getSQLState().matches("57P01|08...")) {
                    throw error;
                }
                answers.println(json(nextStage(stage)));
            }
        }
    }

    @SuppressWarnings("deprecation")
    static DataSource pool(String url, String user) {
        var pool = new PGPoolingDataSource();
        pool.setUrl(url);
        pool.setUser(user);
        pool.setMaxConnections(3);
        return pool;
    }

    static void migrate(Connection connection) throws Exception {
        Path here = Path.of(System.getProperty("migrations"));
        for (String name : List.of("V1__customers.sql", "V2__plain_customers.sql")) {
            try (Statement statement = connection.createStatement()) {
                statement.execute(Files.readString(here.resolve(name)));
            }
        }
    }

    static Map<String, Object> firstStage(Connection connection) throws SQLException {
        String email = given.get("email");
        var answer = new TreeMap<String, Object>();
        long id = insert(connection, "customers", "first", email);
        answer.put("inserted", email(connection, id));
        answer.put("returned", returned(connection, "another", given.get("tax id")));
        insertAll(connection, List.of("second", "third", "fourth"), List.of(given.get("phone"), given.get("name"), given.get("unicode")));
        saveTags(connection, "second", given.get("tax id"), given.get("name"));
        answer.putAll(again(connection));
        answer.put("absent", find(connection, "absent"));
        answer.put("listed_by_array", findAny(connection, given.get("phone"), given.get("unicode")));
        answer.put("fetched", fetched(connection, given.get("phone"), given.get("unicode")));
        answer.put("tagged", tagged(connection, given.get("tax id")));
        upsert(connection, "first", email);
        answer.put("upserted", visits(connection, email));
        answer.put("updated", updated(connection, "third", "changed"));
        List<String> ours = duplicate(connection, "customers");
        insert(connection, "plain_customers", "first", email);
        answer.put("duplicate", ours.equals(duplicate(connection, "plain_customers")));
        // JDBC has no models, so nothing to compare with what it finds.
        answer.put("agrees", "the tool can't compare");
        answer.put("introspected", introspected(connection.getMetaData()));
        answer.put("announced", announced(connection));
        answer.put("prepared", prepared(connection));
        return answer;
    }

    static Map<String, Object> nextStage(Map<String, String> stage) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            insert(connection, "customers", stage.get("stage"), stage.get("email"));
            Map<String, Object> answer = again(connection);
            answer.put("added", find(connection, stage.get("email")));
            return answer;
        }
    }

    static Map<String, Object> again(Connection connection) throws SQLException {
        var answer = new TreeMap<String, Object>();
        answer.put("found", find(connection, given.get("email")));
        answer.put("listed", findEither(connection, given.get("phone"), given.get("unicode")));
        answer.put("tags", tags(connection, "second"));
        return answer;
    }

    static long insert(Connection connection, String table, String label, String email) throws SQLException {
        String sql = "INSERT INTO " + table + " (label, email, visits) VALUES (?, ?, 1)";
        try (PreparedStatement insert = connection.prepareStatement(sql, new String[] {"id"})) {
            insert.setString(1, label);
            insert.setString(2, email);
            insert.executeUpdate();
            ResultSet keys = insert.getGeneratedKeys();
            keys.next();
            return keys.getLong("id");
        }
    }

    static Object email(Connection connection, long id) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT email FROM customers WHERE id = ?")) {
            select.setLong(1, id);
            List<Object> emails = same(select, rows -> rows.getObject("email"));
            return emails.get(0);
        }
    }

    /** The e-mail as RETURNING gives it of a row that does not stay. */
    static String returned(Connection connection, String label, String email) throws SQLException {
        connection.setAutoCommit(false);
        String sql = "INSERT INTO customers (label, email, visits) VALUES (?, ?, 1)";
        try (PreparedStatement insert = connection.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
            insert.setString(1, label);
            insert.setObject(2, email);
            insert.executeUpdate();
            ResultSet keys = insert.getGeneratedKeys();
            keys.next();
            return keys.getString("email");
        } finally {
            connection.rollback();
            connection.setAutoCommit(true);
        }
    }

    static void insertAll(Connection connection, List<String> labels, List<String> emails) throws SQLException {
        // recipe
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO customers (label, email, visits) VALUES (?, ?, 1)")) {
            for (int i = 0; i < labels.size(); i++) {
                insert.setString(1, labels.get(i));
                insert.setString(2, emails.get(i));
                insert.addBatch();
            }
            insert.executeBatch();
        }
        // end of recipe
    }

    static void upsert(Connection connection, String label, String email) throws SQLException {
        // recipe
        try (PreparedStatement upsert = connection.prepareStatement("""
                INSERT INTO customers (label, email, visits) VALUES (?, ?, 1)
                ON CONFLICT (email) DO UPDATE SET visits = customers.visits + 1""")) {
            upsert.setString(1, label);
            upsert.setString(2, email);
            upsert.executeUpdate();
        }
        // end of recipe
    }

    static Object visits(Connection connection, String email) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT visits FROM customers WHERE email = ?")) {
            select.setString(1, email);
            return same(select, rows -> rows.getObject(1)).get(0);
        }
    }

    static void saveTags(Connection connection, String label, String... tags) throws SQLException {
        // recipe
        try (PreparedStatement update = connection.prepareStatement("UPDATE customers SET tags = ? WHERE label = ?")) {
            update.setArray(1, connection.createArrayOf("text", tags));
            update.setString(2, label);
            update.executeUpdate();
        }
        // end of recipe
    }

    static List<String> tags(Connection connection, String label) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT tags FROM customers WHERE label = ?")) {
            select.setString(1, label);
            return same(select, rows -> List.of((String[]) rows.getArray("tags").getArray())).get(0);
        }
    }

    static List<String> tagged(Connection connection, String tag) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT label FROM customers WHERE tags @> ?")) {
            select.setArray(1, connection.createArrayOf("text", new String[] {tag}));
            return same(select, rows -> rows.getString(1));
        }
    }

    static List<String> find(Connection connection, String email) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT label FROM customers WHERE email = ? ORDER BY label")) {
            select.setString(1, email);
            return same(select, rows -> rows.getString("label"));
        }
    }

    static List<String> findEither(Connection connection, String one, String other) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT label FROM customers WHERE email IN (?, ?) ORDER BY label")) {
            select.setString(1, one);
            select.setString(2, other);
            return same(select, rows -> rows.getString("label"));
        }
    }

    static List<String> findAny(Connection connection, String... emails) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT label FROM customers WHERE email = ANY (?) ORDER BY label")) {
            select.setArray(1, connection.createArrayOf("text", emails));
            return same(select, rows -> rows.getString("label"));
        }
    }

    /** E-mails, row by row through a cursor. */
    static List<String> fetched(Connection connection, String... emails) throws SQLException {
        connection.setAutoCommit(false);
        // recipe
        var found = new ArrayList<String>();
        try (PreparedStatement select = connection.prepareStatement("SELECT email FROM customers WHERE email = ANY (?) ORDER BY label")) {
            select.setArray(1, connection.createArrayOf("text", emails));
            select.setFetchSize(1);
            ResultSet rows = select.executeQuery();
            while (rows.next()) {
                found.add(rows.getString("email"));
            }
        }
        // end of recipe
        connection.setAutoCommit(true);
        return found;
    }

    /** Labels of those that have the e-mail, after it was set through an updatable result. */
    static List<String> updated(Connection connection, String label, String email) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement(
                "SELECT id, email FROM customers WHERE label = ?", ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_UPDATABLE)) {
            select.setString(1, label);
            ResultSet rows = select.executeQuery();
            rows.next();
            rows.updateString("email", email);
            rows.updateRow();
        }
        return find(connection, email);
    }

    /** Everything that the error says, with the twin's names and values as ours. */
    static List<String> duplicate(Connection connection, String table) throws SQLException {
        try {
            insert(connection, table, "another", given.get("email"));
            return List.of();
        } catch (PSQLException error) {
            ServerErrorMessage said = error.getServerErrorMessage();
            return Arrays.asList(
                error.getClass().getName(), error.getSQLState(), error.getMessage(), said.getSeverity(), said.getSQLState(), said.getMessage(),
                said.getDetail(), said.getHint(), said.getWhere(), said.getSchema(), said.getTable(), said.getColumn(), said.getDatatype(),
                said.getConstraint(), said.getFile(), "" + said.getLine(), said.getRoutine(), "" + said.getPosition(), said.getInternalQuery()
            ).stream().map(text -> text == null ? "" : text.replace("plain_customers", "customers").replace("(" + given.get("email") + ")", "(withheld)")).toList();
        }
    }

    static Map<String, Object> introspected(DatabaseMetaData data) throws SQLException {
        var found = new TreeMap<String, Object>();
        for (ResultSet columns = data.getColumns(null, "public", "customers", null); columns.next();) {
            found.put(columns.getString("COLUMN_NAME"), List.of(
                columns.getString("TYPE_NAME"), JDBCType.valueOf(columns.getInt("DATA_TYPE")).getName(), columns.getString("IS_NULLABLE")));
        }
        for (ResultSet indexes = data.getIndexInfo(null, "public", "customers", true, true); indexes.next();) {
            found.put(indexes.getString("INDEX_NAME"), indexes.getString("COLUMN_NAME"));
        }
        return found;
    }

    /** Types of columns as results have them. */
    static List<String> announced(Connection connection) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT email, tags FROM customers")) {
            ResultSetMetaData data = select.getMetaData();
            return List.of(data.getColumnTypeName(1), data.getColumnClassName(1), data.getColumnTypeName(2), data.getColumnClassName(2));
        }
    }

    /** How many searches for e-mails were prepared on the server: those in find(), findEither(), findAny() and visits(). */
    static Object prepared(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            ResultSet rows = statement.executeQuery(
                "SELECT count(*)::int FROM pg_prepared_statements WHERE statement ~ '^SELECT (label|visits) FROM customers WHERE email'");
            rows.next();
            return rows.getObject(1);
        }
    }

    interface Read<T> {
        T from(ResultSet rows) throws SQLException;
    }

    /** What each of several runs gives. */
    static <T> List<T> same(PreparedStatement select, Read<T> read) throws SQLException {
        var answers = new HashSet<List<T>>();
        for (int run = 0; run < RUNS; run++) {
            var answer = new ArrayList<T>();
            for (ResultSet rows = select.executeQuery(); rows.next();) {
                answer.add(read.from(rows));
            }
            answers.add(answer);
        }
        if (answers.size() != 1) {
            throw new IllegalStateException("runs of one statement gave different answers");
        }
        return answers.iterator().next();
    }

    /** Every string and number of a line of JSON, whatever object it is in. */
    static Map<String, String> strings(String line) {
        var found = new HashMap<String, String>();
        Matcher pairs = Pattern.compile("\"([^\"]*)\": (?:\"((?:[^\"\\\\]|\\\\.)*)\"|(\\d+))").matcher(line);
        while (pairs.find()) {
            String text = pairs.group(2) == null ? pairs.group(3) : pairs.group(2);
            text = Pattern.compile("\\\\u(....)").matcher(text).replaceAll(code -> Character.toString(Integer.parseInt(code.group(1), 16)));
            found.put(pairs.group(1), text);
        }
        return found;
    }

    static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            return "{" + String.join(", ", map.entrySet().stream().map(entry -> json(entry.getKey()) + ": " + json(entry.getValue())).toList()) + "}";
        }
        if (value instanceof List<?> list) {
            return "[" + String.join(", ", list.stream().map(Customers::json).toList()) + "]";
        }
        return value instanceof String text ? '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"' : String.valueOf(value);
    }
}
