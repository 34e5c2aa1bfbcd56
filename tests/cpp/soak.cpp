// soak STORE ANSWERS: reads the flags of a soak without a pause until its standard input ends, and compares each answer with
// the table of the round that the pinned version names. tests/src/soak/table.rs draws a table, tests/src/processes.rs says what
// is printed; the generation there is the round.

#include <flags.hpp>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <list>
#include <poll.h>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::vector<std::string> fields_of(const std::string &line)
{
    std::vector<std::string> fields;
    std::size_t start = 0;
    for (std::size_t tab; (tab = line.find('\t', start)) != std::string::npos; start = tab + 1)
        fields.push_back(line.substr(start, tab - start));
    fields.push_back(line.substr(start));
    return fields;
}

std::string bytes_of(std::string_view hexadecimal)
{
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hexadecimal.size(); i += 2)
        bytes.push_back(static_cast<char>(std::stoi(std::string(hexadecimal.substr(i, 2)), nullptr, 16)));
    return bytes;
}

std::string hexadecimal(std::string_view bytes)
{
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const char byte : bytes) {
        text.push_back(digits[static_cast<unsigned char>(byte) >> 4]);
        text.push_back(digits[static_cast<unsigned char>(byte) & 15]);
    }
    return text;
}

struct row {
    std::string key, kind;
    const flags::context *context;
    std::string answer; // REASON, ERROR, VARIANT, VALUE

    std::string_view value() const { return std::string_view(answer).substr(answer.rfind('\t') + 1); }
};

// The answers of one round.
class table {
public:
    explicit table(const std::string &path)
    {
        std::ifstream file(path, std::ios::binary);
        std::string line;
        while (std::getline(file, line) && line != "end") {
            const auto fields = fields_of(line);
            if (fields.front() == "subject")
                add_subject(fields);
            else
                add_row(fields);
        }
        if (line != "end")
            throw std::runtime_error("no whole table in " + path);
    }
    table(const table &) = delete;
    table &operator=(const table &) = delete;

    std::vector<row> rows;

private:
    void add_subject(const std::vector<std::string> &fields)
    {
        flags::context context;
        if (fields.at(1) != "-")
            context = flags::context(kept(bytes_of(fields[1].substr(1))));
        for (std::size_t i = 2; i + 2 < fields.size(); i += 3) {
            const auto &name = kept(bytes_of(fields[i])), &type = fields[i + 1], &value = fields[i + 2];
            if (type == "bool")
                context.with(name, value == "true");
            else if (type == "int")
                context.with(name, static_cast<std::int64_t>(std::stoll(value)));
            else if (type == "float")
                context.with(name, number_of(value));
            else
                context.with(name, kept(bytes_of(value)));
        }
        subjects_.push_back(context);
    }

    void add_row(const std::vector<std::string> &fields)
    {
        auto subject = subjects_.begin();
        std::advance(subject, std::stoi(fields.at(3)));
        const auto answer = fields.at(4) + "\t" + fields.at(5) + "\t" + fields.at(6) + "\t" + fields.at(7);
        rows.push_back({fields[1], fields[2], &*subject, answer});
    }

    static double number_of(const std::string &bits)
    {
        const std::uint64_t whole = std::stoull(bits, nullptr, 16);
        double number;
        std::memcpy(&number, &whole, sizeof number);
        return number;
    }

    // Contexts borrow their texts.
    const std::string &kept(std::string text) { return texts_.emplace_back(std::move(text)); }

    std::list<std::string> texts_;
    std::list<flags::context> subjects_;
};

std::string text_of(bool value) { return value ? "bool:true" : "bool:false"; }
std::string text_of(std::int64_t value) { return "int:" + std::to_string(value); }
std::string text_of(double value)
{
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    char text[32];
    std::snprintf(text, sizeof text, "float:%016llx", static_cast<unsigned long long>(bits));
    return text;
}

template <class T, class Text> std::string text_of(const flags::details<T> &details, Text text)
{
    static const char *const reasons[] = {"?", "STATIC", "DEFAULT", "TARGETING_MATCH", "DISABLED", "ERROR"};
    static const char *const errors[] = {
        "-", "FLAG_NOT_FOUND", "TYPE_MISMATCH", "PARSE_ERROR", "GENERAL", "PROVIDER_NOT_READY", "INVALID_CONTEXT",
    };
    return std::string(reasons[details.reason]) + "\t" + errors[details.error] + "\t" +
           (details.variant ? "=" + hexadecimal(*details.variant) : "-") + "\t" + (details.value ? text(*details.value) : "-");
}

std::string ask(const flags::snapshot &flags, const row &row)
{
    const auto plain = [](auto value) { return text_of(value); };
    const auto labelled = [&row](std::string_view value) { return row.kind + ":" + hexadecimal(value); };
    if (row.kind == "bool")
        return text_of(flags.bool_details(row.key, *row.context), plain);
    if (row.kind == "int")
        return text_of(flags.int_details(row.key, *row.context), plain);
    if (row.kind == "float")
        return text_of(flags.double_details(row.key, *row.context), plain);
    if (row.kind == "text")
        return text_of(flags.string_details(row.key, *row.context), labelled);
    return text_of(flags.json_details(row.key, *row.context), labelled);
}

// The value alone, of the client itself.
std::string ask_unpinned(const flags::client &client, const row &row)
{
    static constexpr char fallback[] = "the caller's";
    if (row.kind == "bool") {
        const bool one = client.get_bool(row.key, *row.context, true);
        return one == client.get_bool(row.key, *row.context, false) ? text_of(one) : "-";
    }
    if (row.kind == "int") {
        const auto value = client.get_int(row.key, *row.context, INT64_MIN);
        return value == INT64_MIN ? "-" : text_of(value);
    }
    if (row.kind == "float") {
        const auto value = client.get_double(row.key, *row.context, 1e300);
        return value < 1e300 ? text_of(value) : "-";
    }
    const auto value = row.kind == "text" ? client.get_string(row.key, *row.context, fallback)
                                          : client.get_json(row.key, *row.context, fallback);
    return value == fallback ? "-" : row.kind + ":" + hexadecimal(value);
}

class reader {
public:
    reader(const char *store, std::string answers) : client_(opened(store)), answers_(std::move(answers)) {}

    // Reads everything once.
    void read()
    {
        const auto flags = client_.snapshot();
        require(flags.generation() >= generation_, "an older generation after a newer");
        generation_ = flags.generation();
        const auto round = flags.get_int("soak-round", {}, 0);
        require(round > 0, "no round is named");
        require(round >= round_, "an older round after a newer");
        if (round > round_) {
            round_ = round;
            table_ = std::make_unique<table>(answers_ + "/" + std::to_string(round));
        }
        for (const auto &row : table_->rows) {
            const auto found = ask(flags, row);
            require(found == row.answer, row.key + " as " + row.kind + ": expected " + row.answer + "\nfound " + found);
        }
        evaluations_ += table_->rows.size();
        // The client itself, where no update comes between.
        std::string wrong;
        for (const auto &row : table_->rows) {
            const auto found = ask_unpinned(client_, row);
            if (found != row.value() && wrong.empty())
                wrong = row.key + " as " + row.kind + ": expected " + row.answer + "\nfound by the client " + found;
        }
        if (client_.snapshot().generation() == generation_) {
            require(wrong.empty(), wrong);
            evaluations_ += table_->rows.size();
        }
    }

    void report() const
    {
        std::cout << "progress " << evaluations_ << " " << round_ << " " << evaluations_ << std::endl;
    }

private:
    static flags::client opened(const char *store)
    {
        flags::options options;
        options.store = store;
        return flags::client(options);
    }

    void require(bool holds, const std::string &what) const
    {
        if (!holds)
            throw std::runtime_error("round " + std::to_string(round_) + ", generation " + std::to_string(generation_) +
                                     ": " + what);
    }

    flags::client client_;
    std::string answers_;
    std::unique_ptr<table> table_;
    std::uint64_t generation_ = 0, evaluations_ = 0;
    std::int64_t round_ = 0;
};

} // namespace

int main(int argc, char **argv)
try {
    if (argc != 3)
        throw std::runtime_error("usage: soak STORE ANSWERS");
    reader reader(argv[1], argv[2]);
    auto reported = std::chrono::steady_clock::now();
    for (;;) {
        reader.read();
        const auto now = std::chrono::steady_clock::now();
        if (now - reported < std::chrono::milliseconds(5))
            continue;
        reported = now;
        reader.report();
        pollfd input = {0, POLLIN, 0};
        if (poll(&input, 1, 0) > 0)
            return 0; // nothing is ever written there: it has ended
    }
} catch (const std::exception &wrong) {
    std::cerr << "soak.cpp: " << wrong.what() << std::endl;
    return 1;
}
