// flags.hpp - feature flags read from shared memory, for C++17. Header-only, over flags.h.
//
//     #include <flags.hpp>
//     #include <iostream>
//
//     int main(int argc, char **argv)
//     {
//         flags::client client = argc > 1 ? flags::client(flags::from_file, argv[1]) : flags::client();
//         flags::context context("user-1");
//         context.with("tier", "premium").with("age", 42);
//
//         if (client.get_bool("new-checkout", context, false))
//             std::cout << "the new checkout\n";
//         std::cout << "a " << client.get_string("button-colour", context, "blue") << " button\n";
//
//         static flags::flag dark_mode("dark-mode");
//         if (dark_mode.get_bool(client, context, false))
//             std::cout << "in the dark\n";
//
//         flags::snapshot now = client.snapshot(); // one version for many reads
//         flags::details<std::string_view> colour = now.string_details("button-colour", context);
//         std::cout << colour.value.value_or("blue") << ": " << flags::to_string(colour.reason) << "\n";
//     }
//
// Only the constructors of flags::client throw (flags::error); flags::client::try_open() does not even that. What a context is
// made of is borrowed: it must outlive the context. Threads, fork and the rest are as flags.h says.

#ifndef FLAGS_HPP
#define FLAGS_HPP

#include <flags.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if __cplusplus < 201703L && !(defined(_MSVC_LANG) && _MSVC_LANG >= 201703L)
#error "flags.hpp needs C++17"
#endif

namespace flags {

/// Why a client could not be opened: what() is a sentence for a log.
class error : public std::runtime_error {
public:
    error(flags_status status, const std::string &what) : std::runtime_error(what), status_(status) {}

    /// Which kind of failure it is.
    flags_status status() const noexcept { return status_; }

private:
    flags_status status_;
};

/// Why a flag has the value it has.
using reason = flags_reason;

/// What is wrong with an evaluation.
using error_code = flags_error;

/// OpenFeature's word for a reason, such as "TARGETING_MATCH".
constexpr std::string_view to_string(reason reason) noexcept
{
    switch (reason) {
    case FLAGS_REASON_STATIC: return "STATIC";
    case FLAGS_REASON_DEFAULT: return "DEFAULT";
    case FLAGS_REASON_TARGETING_MATCH: return "TARGETING_MATCH";
    case FLAGS_REASON_DISABLED: return "DISABLED";
    case FLAGS_REASON_ERROR: return "ERROR";
    }
    return "UNKNOWN";
}

/// OpenFeature's word for an error, such as "FLAG_NOT_FOUND"; "" for none.
constexpr std::string_view to_string(error_code error) noexcept
{
    switch (error) {
    case FLAGS_ERROR_NONE: return "";
    case FLAGS_ERROR_FLAG_NOT_FOUND: return "FLAG_NOT_FOUND";
    case FLAGS_ERROR_TYPE_MISMATCH: return "TYPE_MISMATCH";
    case FLAGS_ERROR_PARSE_ERROR: return "PARSE_ERROR";
    case FLAGS_ERROR_GENERAL: return "GENERAL";
    case FLAGS_ERROR_PROVIDER_NOT_READY: return "PROVIDER_NOT_READY";
    case FLAGS_ERROR_INVALID_CONTEXT: return "INVALID_CONTEXT";
    }
    return "GENERAL";
}

/// Text that ends with a NUL, for a function's duration. A literal and a std::string are borrowed; a std::string_view is
/// copied, onto the stack up to 256 bytes.
class cstring {
public:
    cstring(const char *text) noexcept : text_(text) {}
    cstring(const std::string &text) noexcept : text_(text.c_str()) {}
    cstring(std::string_view text) noexcept
    {
        char *copy = near_;
        if (text.size() >= sizeof near_) {
            far_.reset(new (std::nothrow) char[text.size() + 1]);
            copy = far_.get();
        }
        if (copy != nullptr) {
            text.copy(copy, text.size());
            copy[text.size()] = '\0';
        }
        text_ = copy;
    }
    cstring(const cstring &) = delete;
    cstring &operator=(const cstring &) = delete;

    const char *c_str() const noexcept { return text_; }

private:
    const char *text_;
    std::unique_ptr<char[]> far_;
    char near_[257];
};

class value;

/// Values the caller keeps, as a list: of a std::vector<flags::value>, a std::array, an array.
struct list_view {
    const value *items = nullptr;
    std::size_t count = 0;

    constexpr list_view() noexcept = default;
    constexpr list_view(const value *items_, std::size_t count_) noexcept : items(items_), count(count_) {}
    template <class Container,
              std::enable_if_t<std::is_convertible_v<decltype(std::data(std::declval<const Container &>())), const value *>,
                               int> = 0>
    constexpr list_view(const Container &container) noexcept : items(std::data(container)), count(std::size(container))
    {
    }
};

class attribute;

/// Named values the caller keeps, as an object.
struct object_view {
    const attribute *members = nullptr;
    std::size_t count = 0;

    constexpr object_view() noexcept = default;
    constexpr object_view(const attribute *members_, std::size_t count_) noexcept : members(members_), count(count_) {}
    template <class Container,
              std::enable_if_t<
                  std::is_convertible_v<decltype(std::data(std::declval<const Container &>())), const attribute *>, int> = 0>
    constexpr object_view(const Container &container) noexcept
        : members(std::data(container)), count(std::size(container))
    {
    }
};

/// A value of a context; borrows text, lists and objects.
class value {
public:
    value() noexcept : raw_{FLAGS_TYPE_NONE, {false}} {}
    value(std::nullptr_t) noexcept : value() {}
    value(std::string_view text) noexcept : raw_(flags_value_text(text.data(), text.size())) {}
    value(const std::string &text) noexcept : value(std::string_view(text)) {}
    value(const char *text) noexcept : raw_(flags_value_string(text)) {}
    value(list_view list) noexcept;
    value(object_view object) noexcept;
    template <class Number, std::enable_if_t<std::is_arithmetic_v<Number>, int> = 0>
    value(Number number) noexcept : raw_(of(number))
    {
    }
    /// An optional without a value is null.
    template <class T> value(const std::optional<T> &maybe) noexcept : value()
    {
        if (maybe)
            *this = value(*maybe);
    }

    const flags_value &raw() const noexcept { return raw_; }

private:
    template <class Number> static flags_value of(Number number) noexcept
    {
        if constexpr (std::is_same_v<Number, bool>) {
            return flags_value_bool(number);
        } else if constexpr (std::is_floating_point_v<Number>) {
            return flags_value_double(static_cast<double>(number));
        } else {
            // Rules compute in doubles, so what an int64_t cannot hold loses nothing more as a double.
            if constexpr (std::is_unsigned_v<Number> && sizeof(Number) >= sizeof(std::int64_t)) {
                if (number > static_cast<Number>(INT64_MAX))
                    return flags_value_double(static_cast<double>(number));
            }
            return flags_value_int(static_cast<std::int64_t>(number));
        }
    }

    flags_value raw_;
};

/// A named value, of a context or an object; borrows its name.
class attribute {
public:
    attribute(std::string_view name, value value) noexcept
        : raw_{name.empty() ? "" : name.data(), name.size(), value.raw()}
    {
    }

    const flags_attribute &raw() const noexcept { return raw_; }

private:
    flags_attribute raw_;
};

// So that arrays of them are arrays of what C knows.
static_assert(sizeof(value) == sizeof(flags_value) && std::is_standard_layout_v<value>);
static_assert(sizeof(attribute) == sizeof(flags_attribute) && std::is_standard_layout_v<attribute>);

inline value::value(list_view list) noexcept
    : raw_(flags_value_list(reinterpret_cast<const flags_value *>(list.items), list.count))
{
}

inline value::value(object_view object) noexcept
    : raw_(flags_value_object(reinterpret_cast<const flags_attribute *>(object.members), object.count))
{
}

/// Who is asking: a targeting key and attributes. Borrows them all; allocates only beyond eight attributes.
class context {
public:
    /// Nobody in particular.
    context() noexcept {}

    /// The user, session or whatever flags are decided for.
    context(std::string_view targeting_key) noexcept : targeting_key_(targeting_key) {}
    context(const char *targeting_key) noexcept : targeting_key_(targeting_key) {}
    context(const std::string &targeting_key) noexcept : targeting_key_(targeting_key) {}

    context(const context &other) : targeting_key_(other.targeting_key_), count_(other.count_), far_(other.far_)
    {
        take_near(other);
    }
    context(context &&other) noexcept
        : targeting_key_(other.targeting_key_), count_(other.count_), far_(std::move(other.far_))
    {
        take_near(other);
        other.count_ = 0;
    }
    context &operator=(context other) noexcept
    {
        targeting_key_ = other.targeting_key_;
        count_ = other.count_;
        far_ = std::move(other.far_);
        take_near(other);
        return *this;
    }
    ~context() = default;

    /// Adds an attribute; of two with one name the first counts. Throws std::bad_alloc beyond eight attributes only.
    context &with(std::string_view name, value value) &
    {
        add(attribute(name, value).raw());
        return *this;
    }
    context &&with(std::string_view name, value value) &&
    {
        add(attribute(name, value).raw());
        return std::move(*this);
    }

    /// The context as C knows it, for as long as this one is not changed or moved.
    flags_context raw() const noexcept
    {
        const char *key = !targeting_key_ ? nullptr : targeting_key_->empty() ? "" : targeting_key_->data();
        const flags_attribute *attributes = far_.empty() ? near_ : far_.data();
        return {sizeof(flags_context), key, count_ == 0 ? nullptr : attributes, count_,
                targeting_key_ ? targeting_key_->size() : 0};
    }

private:
    static constexpr std::size_t near_count = 8;

    void add(const flags_attribute &attribute)
    {
        if (count_ < near_count) {
            near_[count_] = attribute;
        } else {
            if (far_.empty())
                far_.assign(near_, near_ + near_count);
            far_.push_back(attribute);
        }
        ++count_;
    }

    /// Copies what is in use, and touches nothing else.
    void take_near(const context &other) noexcept
    {
        std::copy_n(other.near_, std::min(count_, near_count), near_);
    }

    std::optional<std::string_view> targeting_key_;
    std::size_t count_ = 0;
    flags_attribute near_[near_count];
    std::vector<flags_attribute> far_;
};

/// An evaluation's answer. T is bool, std::int64_t, double or std::string_view; texts live as long as the snapshot.
template <class T> struct details {
    /// The flag's value; empty where the caller's default stands.
    std::optional<T> value;
    /// The name of the variant; empty where the caller's default stands.
    std::optional<std::string_view> variant;
    /// Why.
    flags::reason reason = FLAGS_REASON_ERROR;
    /// What is wrong, where the reason is FLAGS_REASON_ERROR.
    error_code error = FLAGS_ERROR_GENERAL;
};

/// One version of the flags, for many reads. Move-only; may outlive its client.
class snapshot {
public:
    /// Takes over what flags_snapshot_acquire() gave.
    explicit snapshot(flags_snapshot *raw = nullptr) noexcept : raw_(raw) {}

    bool get_bool(const cstring &key, const context &context, bool fallback) const noexcept
    {
        return bool_details(key, context).value.value_or(fallback);
    }
    std::int64_t get_int(const cstring &key, const context &context, std::int64_t fallback) const noexcept
    {
        return int_details(key, context).value.value_or(fallback);
    }
    double get_double(const cstring &key, const context &context, double fallback) const noexcept
    {
        return double_details(key, context).value.value_or(fallback);
    }
    /// Lives as long as the snapshot, or as the fallback.
    std::string_view get_string(const cstring &key, const context &context, std::string_view fallback) const noexcept
    {
        return string_details(key, context).value.value_or(fallback);
    }
    /// Compact JSON text; lives as long as the snapshot, or as the fallback.
    std::string_view get_json(const cstring &key, const context &context, std::string_view fallback) const noexcept
    {
        return json_details(key, context).value.value_or(fallback);
    }

    details<bool> bool_details(const cstring &key, const context &context) const noexcept
    {
        return evaluate<bool>(key, FLAGS_TYPE_BOOL, context, [](const flags_value &value) { return value.as.boolean; });
    }
    details<std::int64_t> int_details(const cstring &key, const context &context) const noexcept
    {
        return evaluate<std::int64_t>(key, FLAGS_TYPE_INT, context,
                                      [](const flags_value &value) { return value.as.integer; });
    }
    details<double> double_details(const cstring &key, const context &context) const noexcept
    {
        return evaluate<double>(key, FLAGS_TYPE_DOUBLE, context,
                                [](const flags_value &value) { return value.as.number; });
    }
    details<std::string_view> string_details(const cstring &key, const context &context) const noexcept
    {
        return evaluate<std::string_view>(key, FLAGS_TYPE_STRING, context, text_of);
    }
    details<std::string_view> json_details(const cstring &key, const context &context) const noexcept
    {
        return evaluate<std::string_view>(key, FLAGS_TYPE_JSON, context, text_of);
    }

    /// An entry of a flag's metadata, whose text lives as long as the snapshot; nothing beyond the last one.
    struct metadata_entry {
        std::string_view name;
        flags_value value;
    };
    std::optional<metadata_entry> metadata(const cstring &key, std::size_t index) const noexcept
    {
        flags_metadata entry = FLAGS_METADATA_INIT;
        if (flags_snapshot_metadata(raw(), key.c_str(), index, &entry) != FLAGS_OK)
            return std::nullopt;
        return metadata_entry{{entry.name.data, entry.name.length}, entry.value};
    }

    /// It grows with each change; 0 while there is no store.
    std::uint64_t generation() const noexcept { return flags_snapshot_generation(raw()); }

    const flags_snapshot *raw() const noexcept { return raw_.get(); }

private:
    template <class T, class Read>
    details<T> evaluate(const cstring &key, flags_type want, const context &context, Read read) const noexcept
    {
        flags_result result = FLAGS_RESULT_INIT;
        const flags_context raw_context = context.raw();
        details<T> details;
        if (flags_evaluate(raw(), key.c_str(), want, &raw_context, &result) != FLAGS_OK) {
            // A snapshot that was moved from, or a key that is NULL.
            details.error = raw() == nullptr ? FLAGS_ERROR_PROVIDER_NOT_READY : FLAGS_ERROR_FLAG_NOT_FOUND;
            return details;
        }
        if (result.value.type == want)
            details.value = read(result.value);
        if (result.variant.data != nullptr)
            details.variant = std::string_view(result.variant.data, result.variant.length);
        details.reason = result.reason;
        details.error = result.error;
        return details;
    }

    static std::string_view text_of(const flags_value &value) noexcept
    {
        return {value.as.string.data, value.as.string.length};
    }

    struct release {
        void operator()(flags_snapshot *raw) const noexcept { flags_snapshot_release(raw); }
    };
    std::unique_ptr<flags_snapshot, release> raw_;
};

/// How to open a store; what is not set is the default.
struct options {
    /// The store's directory; where it is not set the usual places are tried.
    std::optional<std::string> store;
    /// Whether a store must be there already. Without it the client attaches when one appears, and answers fallbacks until then.
    bool wait = true;
    /// With `wait`: for how long to look for a store before giving up.
    std::chrono::milliseconds timeout{0};
    /// Which flags are seen, such as "flagSetId=checkout"; where it is not set all.
    std::optional<std::string> selector;
};

/// Chooses the constructor of a client that reads a definition file.
struct from_file_t {
    explicit from_file_t() = default;
};
inline constexpr from_file_t from_file{};

/// A reader of one store or definition file: open one, and share it among all threads. Move-only.
class client {
public:
    /// Opens the store; throws flags::error.
    explicit client(const options &options = {})
    {
        flags_client *raw = nullptr;
        check(open(options, &raw));
        raw_.reset(raw);
    }

    /// Compiles a definition file in this process, without a daemon; throws flags::error.
    client(from_file_t, const cstring &path)
    {
        flags_client *raw = nullptr;
        check(flags_open_file(path.c_str(), &raw));
        raw_.reset(raw);
    }

    /// Opens the store without exceptions: nothing where that fails, and then `status`, if given, says why
    /// (and flags_last_error() in words).
    static std::optional<client> try_open(const options &options = {}, flags_status *status = nullptr) noexcept
    {
        flags_client *raw = nullptr;
        const flags_status outcome = open(options, &raw);
        return handed_out(outcome, raw, status);
    }
    static std::optional<client> try_open(from_file_t, const cstring &path, flags_status *status = nullptr) noexcept
    {
        flags_client *raw = nullptr;
        const flags_status outcome = flags_open_file(path.c_str(), &raw);
        return handed_out(outcome, raw, status);
    }

    bool get_bool(const cstring &key, const context &context, bool fallback) const noexcept
    {
        const flags_context raw_context = context.raw();
        return flags_bool(raw(), key.c_str(), &raw_context, fallback);
    }
    std::int64_t get_int(const cstring &key, const context &context, std::int64_t fallback) const noexcept
    {
        const flags_context raw_context = context.raw();
        return flags_int(raw(), key.c_str(), &raw_context, fallback);
    }
    double get_double(const cstring &key, const context &context, double fallback) const noexcept
    {
        const flags_context raw_context = context.raw();
        return flags_double(raw(), key.c_str(), &raw_context, fallback);
    }
    /// A copy; to read without one, see flags::snapshot. Throws std::bad_alloc only.
    std::string get_string(const cstring &key, const context &context, const cstring &fallback) const
    {
        return copied(flags_string, key, context, fallback);
    }
    /// Compact JSON text, a copy. Throws std::bad_alloc only.
    std::string get_json(const cstring &key, const context &context, const cstring &fallback) const
    {
        return copied(flags_json, key, context, fallback);
    }

    /// One version of the flags, for many reads.
    flags::snapshot snapshot() const noexcept { return flags::snapshot(flags_snapshot_acquire(raw())); }

    /// How fresh the flags are.
    flags_client_status status() const noexcept
    {
        flags_client_status status = FLAGS_CLIENT_STATUS_INIT;
        flags_get_status(raw(), &status);
        return status;
    }

    const flags_client *raw() const noexcept { return raw_.get(); }

private:
    explicit client(flags_client *raw) noexcept : raw_(raw) {}

    static flags_status open(const options &options, flags_client **out) noexcept
    {
        flags_options raw = FLAGS_OPTIONS_INIT;
        raw.wait = options.wait;
        const auto timeout = options.timeout.count();
        raw.timeout_ms = timeout < 0 ? 0 : timeout > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(timeout);
        raw.selector = options.selector ? options.selector->c_str() : nullptr;
        return flags_open(options.store ? options.store->c_str() : nullptr, &raw, out);
    }

    static void check(flags_status status)
    {
        if (status != FLAGS_OK)
            throw error(status, std::string(flags_status_text(status)) + ": " + flags_last_error());
    }

    static std::optional<client> handed_out(flags_status outcome, flags_client *raw, flags_status *status) noexcept
    {
        if (status != nullptr)
            *status = outcome;
        if (outcome != FLAGS_OK)
            return std::nullopt;
        return client(raw);
    }

    template <class Read>
    std::string copied(Read read, const cstring &key, const context &context, const cstring &fallback) const
    {
        const flags_context raw_context = context.raw();
        char near[256];
        std::size_t length = read(raw(), key.c_str(), &raw_context, fallback.c_str(), near, sizeof near);
        if (length < sizeof near)
            return std::string(near, length);
        std::string text;
        // The flag may change between two reads, to something longer.
        do {
            text.resize(length);
            length = read(raw(), key.c_str(), &raw_context, fallback.c_str(), text.data(), text.size() + 1);
        } while (length > text.size());
        text.resize(length);
        return text;
    }

    struct close {
        void operator()(flags_client *raw) const noexcept { flags_close(raw); }
    };
    std::unique_ptr<flags_client, close> raw_;
};

/// A flag that is looked up once a version instead of once a call. Make it static; its key must live as long. Shared by all
/// threads.
class flag {
public:
    constexpr explicit flag(const char *key) noexcept : raw_{key, 0, {0, 0, 0, 0}} {}
    flag(const flag &) = delete;
    flag &operator=(const flag &) = delete;

    bool get_bool(const client &client, const context &context, bool fallback) noexcept
    {
        const flags_context raw_context = context.raw();
        return flags_bool_ref(client.raw(), &raw_, &raw_context, fallback);
    }

private:
    flags_ref raw_;
};

} // namespace flags

#endif // FLAGS_HPP
