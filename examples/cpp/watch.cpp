// Checks two flags a thousand times a second and says when an answer changes.
//
// The store is the one in $FLAGS_STORE, or the host's own.
#include <flags.hpp>

#include <chrono>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

int main() try {
    const flags::client client;
    flags::context context("user-1");
    context.with("country", "DE");

    std::string seen;
    for (unsigned long checks = 1;; checks++) {
        const bool checkout = client.get_bool("new-checkout", context, false);
        const std::string greeting = client.get_string("greeting", context, "?");
        const std::string answers = std::string("new-checkout=") + (checkout ? "true" : "false") + " greeting=" + greeting;
        if (answers != seen) {
            std::cout << answers << std::endl;
            seen = answers;
        }
        if (checks % 100 == 0) std::cout << "checks " << checks << std::endl;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
} catch (const std::exception &error) {
    std::cerr << "watch: " << error.what() << '\n';
    return 1;
}
